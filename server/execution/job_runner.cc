#include "server/execution/job_runner.h"

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "attnprune/v1/job.pb.h"
#include "core/base/status_macros.h"
#include "core/judge/score.h"
#include "core/judge/theory.h"
#include "core/methods/registry.h"
#include "core/methods/solver_state.h"
#include "server/execution/job_spec.h"
#include "server/execution/job_writer.h"
#include "server/execution/memory_plan.h"
#include "server/execution/method_checkpoint.h"
#include "server/execution/method_messages.h"
#include "server/execution/problem_builder.h"
#include "server/execution/stored_weights.h"
#include "server/queue/scheduler.h"

namespace attnprune {
namespace {

absl::Time DeadlineOf(const JobRecord& job) {
  OutstandingJob outstanding;
  outstanding.timeout = job.timeout;
  outstanding.start_time = job.start_time;
  return Deadline(outstanding);
}

// A full disk or a busy database may have room in a while.
bool MayPass(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnavailable(status);
}

// A method's figures on their way to the writer; says stop when the job is to stop.
class MethodObserver final : public ProgressObserver {
 public:
  // stopped: looks at the clock too. Everything must outlive the observer.
  MethodObserver(int method_index, std::string label, double seconds_before, JobWriter* writer,
                 const StopSignal* stop, absl::FunctionRef<bool()> stopped,
                 absl::FunctionRef<void(const StepStats&)> on_step)
      : method_index_(method_index),
        label_(std::move(label)),
        seconds_before_(seconds_before),
        writer_(writer),
        stop_(stop),
        stopped_(stopped),
        on_step_(on_step) {}

  Verdict OnStep(const StepStats& stats, const Resumable& run) override {
    if (steps_before_ < 0) steps_before_ = stats.step - 1;
    on_step_(stats);
    writer_->AddProgress(
        MakeProgress(label_, stats, steps_before_, seconds_before_).SerializeAsString(),
        stats.calibration_error.has_value() ? EventKind::kEvaluated : EventKind::kProgress);
    const bool stopped = stopped_();
    const bool draining = stop_->reason() == StopReason::kDraining;
    if (draining || (!stopped && writer_->CheckpointIsDue())) {
      std::string state = writer_->TakeCheckpointRoom();
      run.AppendState(&state);
      writer_->AddCheckpoint(FormatMethodCheckpoint(
          {method_index_, seconds_before_ + stats.seconds, std::move(state)}));
    }
    return stopped ? Verdict::kStop : Verdict::kContinue;
  }

 private:
  const int method_index_;
  const std::string label_;
  const double seconds_before_;  // of earlier attempts
  JobWriter* const writer_;
  const StopSignal* const stop_;
  const absl::FunctionRef<bool()> stopped_;
  const absl::FunctionRef<void(const StepStats&)> on_step_;
  int steps_before_ = -1;  // of earlier attempts; known at the first step
};

// A method from its beginning to its end, for who observes.
class ObservedMethod {
 public:
  ObservedMethod(const JobRunnerOptions& options, const std::string& method) : options_(options) {
    if (options.observer != nullptr) options.observer->OnMethodBegin(options.worker, method);
  }
  ~ObservedMethod() {
    if (options_.observer != nullptr) options_.observer->OnMethodEnd(options_.worker);
  }
  ObservedMethod(const ObservedMethod&) = delete;
  ObservedMethod& operator=(const ObservedMethod&) = delete;

 private:
  const JobRunnerOptions& options_;
};

// One run of a job. Functions that return a Status fail when the job has to end or to stop;
// what of the two, and how, is decided in End alone.
class JobRun {
 public:
  JobRun(const JobRecord& record, JobStore* jobs, BlobStore* tensors,
         const JobRunnerOptions& options, StopSignal* stop)
      : record_(record),
        claim_{record.id, record.fence},
        deadline_(DeadlineOf(record)),
        jobs_(jobs),
        tensors_(tensors),
        options_(options),
        stop_(stop),
        writer_(jobs, claim_, WriterOptions(), stop) {}

  void Run();

 private:
  struct Solved {
    PruneResult result;
    double seconds;  // over all attempts
  };
  // A method's result, and the weights as they are to be stored.
  struct Produced {
    v1::MethodResult message;
    PruneResult result;
    std::vector<std::vector<char>> weights;
  };

  JobWriterOptions WriterOptions();
  bool StopRequested();
  absl::Status CheckStop();

  const JobMethod& MethodAt(int index) const { return spec_.methods[static_cast<size_t>(index)]; }
  const std::string& LabelOf(int index) const { return MethodAt(index).label; }

  absl::Status RunMethods();
  void CountResult(const v1::MethodResult& result);
  absl::Status RunMethod(int index);
  absl::StatusOr<Produced> Produce(int index);
  absl::StatusOr<Solved> Solve(int index);
  DenseAttention Attention() const;
  absl::StatusOr<Solved> Attempt(const Method& method, int index, double seconds_before,
                                 RunOptions options);
  absl::optional<MethodCheckpoint> ReadCheckpoint(int index);

  absl::Status StoreTensors(Produced* produced);
  absl::Status Store(absl::Span<const char> bytes, v1::TensorRef* tensor);
  absl::Status StoreResult(int index, const v1::MethodResult& result);
  bool WaitToRetry();
  absl::Status Patiently(absl::FunctionRef<absl::Status()> write,
                         absl::FunctionRef<bool()> wait_or_give_up);

  void End(const absl::Status& status);
  absl::Status WriteEnd(StopReason reason, const absl::Status& status);
  absl::Status WriteCompleted();
  absl::Status Fail(const absl::Status& status);
  void Report(const absl::Status& status);

  const JobRecord& record_;
  const JobClaim claim_;
  const absl::Time deadline_;
  JobStore* const jobs_;
  BlobStore* const tensors_;
  const JobRunnerOptions& options_;
  StopSignal* const stop_;
  JobWriter writer_;

  v1::Job job_;
  JobSpec spec_;  // of job_
  Problem problem_;
  int usable_results_ = 0;
  absl::Status first_failure_;  // of a method
  bool store_failed_ = false;   // the job store took no result: the job is left to another attempt
};

JobWriterOptions JobRun::WriterOptions() {
  return {options_.progress_interval, options_.checkpoint_interval, options_.clock,
          [this](const absl::Status& status) { Report(status); },
          [this](bool written, size_t bytes) {
            if (options_.observer == nullptr) return;
            options_.observer->OnCheckpoint(options_.worker, written, bytes);
          }};
}

void JobRun::Report(const absl::Status& status) {
  if (options_.on_trouble) options_.on_trouble(claim_.id, status);
}

bool JobRun::StopRequested() {
  if (!stop_->requested() && options_.clock->Now() >= deadline_) {
    stop_->Request(StopReason::kTimedOut);
  }
  return stop_->requested();
}

absl::Status JobRun::CheckStop() {
  return StopRequested() ? absl::CancelledError("the job is to stop") : absl::OkStatus();
}

// --- From methods to results ---

void JobRun::Run() {
  absl::Status status;
  try {
    status = RunMethods();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("the job needs more memory than the server has");
  }
  End(status);
}

absl::Status JobRun::RunMethods() {
  if (!job_.ParseFromString(record_.spec)) {
    return absl::DataLossError("the stored job is not a message of the API");
  }
  for (const std::string& bytes : record_.results) {
    v1::MethodResult result;
    if (!result.ParseFromString(bytes)) {
      return absl::DataLossError("a stored result is not a message of the API");
    }
    CountResult(result);
  }
  const int done = static_cast<int>(record_.results.size());
  if (done == job_.methods_size()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop());
  ATTNPRUNE_ASSIGN_OR_RETURN(spec_, DecodeJob(job_));
  std::string spill_folder;
  if (Attention() == DenseAttention::kRecompute) {
    ATTNPRUNE_ASSIGN_OR_RETURN(spill_folder, tensors_->TemporaryFolder(SpilledBytes(spec_.shape)));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      problem_, BuildProblem(
                    spec_, tensors_, [this] { return StopRequested(); }, spill_folder));
  for (int i = done; i < job_.methods_size(); ++i) ATTNPRUNE_RETURN_IF_ERROR(RunMethod(i));
  return absl::OkStatus();
}

void JobRun::CountResult(const v1::MethodResult& result) {
  if (!result.has_failure()) {
    ++usable_results_;
  } else if (first_failure_.ok()) {
    first_failure_ = absl::Status(static_cast<absl::StatusCode>(result.failure().code()),
                                  absl::StrCat(result.method(), ": ", result.failure().message()));
  }
}

absl::Status JobRun::RunMethod(int index) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop());
  absl::StatusOr<Produced> produced = Produce(index);
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop());
  if (!produced.ok()) {
    const std::string& label = LabelOf(index);
    return StoreResult(index, MakeFailedMethod(label, produced.status()));
  }
  ATTNPRUNE_RETURN_IF_ERROR(StoreTensors(&*produced));
  return StoreResult(index, produced->message);
}

absl::StatusOr<JobRun::Produced> JobRun::Produce(int index) {
  const std::string& label = LabelOf(index);
  Produced produced;
  ATTNPRUNE_ASSIGN_OR_RETURN(Solved solved, Solve(index));
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop());
  ATTNPRUNE_ASSIGN_OR_RETURN(produced.weights,
                             RoundToStored(spec_.weights, *tensors_, &solved.result));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Score score,
                             Judge(problem_, solved.result, options_.threads, Attention()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop());
  ATTNPRUNE_ASSIGN_OR_RETURN(const TheoryFigures figures,
                             Theory(problem_, solved.result, options_.threads));
  produced.message = MakeMethodResult(label, spec_.weights, solved.result, score, solved.seconds);
  produced.message.set_held_out_source(HeldOutSourceOf(spec_, problem_));
  AddTheory(figures, &produced.message);
  produced.result = std::move(solved.result);
  if (produced.result.reason == TerminationReason::kNumericalError) {
    writer_.AddWarning(absl::StrCat(label, ": the loss is no longer finite after ",
                                    produced.result.steps,
                                    " steps; the result is the last finite mask"));
  }
  return produced;
}

DenseAttention JobRun::Attention() const {
  return WithinBudget(job_.estimate(), options_.memory_budget_bytes);
}

absl::StatusOr<JobRun::Solved> JobRun::Solve(int index) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const ChosenMethod chosen, ChooseMethod(MethodAt(index).spec));
  const std::unique_ptr<Method> method = chosen.Create();
  RunOptions options;
  options.threads = options_.threads;
  options.attention = Attention();
  options.seed = spec_.seed;
  options.evaluate_every = EvaluateEvery(spec_, chosen.StepsAtMost());
  if (absl::optional<MethodCheckpoint> checkpoint = ReadCheckpoint(index)) {
    RunOptions resumed = options;
    resumed.resume_from = std::move(checkpoint->state);
    absl::StatusOr<Solved> solved =
        Attempt(*method, index, checkpoint->seconds, std::move(resumed));
    if (solved.ok() || !IsResumeRefused(solved.status())) return solved;
    writer_.AddWarning(absl::StrCat(LabelOf(index), " starts over: ", solved.status().message()));
  }
  return Attempt(*method, index, 0, std::move(options));
}

absl::StatusOr<JobRun::Solved> JobRun::Attempt(const Method& method, int index,
                                               double seconds_before, RunOptions options) {
  const auto stopped = [this] { return StopRequested(); };
  const auto on_step = [this](const StepStats& stats) {
    if (options_.observer != nullptr) options_.observer->OnStep(options_.worker, stats);
  };
  const ObservedMethod observed(options_, MethodAt(index).spec.name);
  MethodObserver observer(index, LabelOf(index), seconds_before, &writer_, stop_, stopped, on_step);
  ATTNPRUNE_ASSIGN_OR_RETURN(PruneResult result,
                             method.Prune(problem_, std::move(options), observer));
  const double seconds = seconds_before + result.seconds;
  return Solved{std::move(result), seconds};
}

// Of the method that an earlier attempt was in; nothing to go on from is no error.
absl::optional<MethodCheckpoint> JobRun::ReadCheckpoint(int index) {
  if (!record_.has_checkpoint || index != static_cast<int>(record_.results.size())) {
    return absl::nullopt;
  }
  absl::StatusOr<absl::optional<std::string>> bytes = jobs_->ReadCheckpoint(claim_);
  absl::Status status = bytes.status();
  if (status.ok() && bytes->has_value()) {
    absl::StatusOr<MethodCheckpoint> checkpoint = ParseMethodCheckpoint(**std::move(bytes));
    if (checkpoint.ok() && checkpoint->method_index == index) return *std::move(checkpoint);
    status = checkpoint.ok() ? absl::DataLossError("the checkpoint is another method's")
                             : checkpoint.status();
  }
  if (absl::IsAborted(status)) stop_->Request(StopReason::kLapsed);
  if (!status.ok()) {
    writer_.AddWarning(absl::StrCat(LabelOf(index), " starts over: ", status.message()));
  }
  return absl::nullopt;
}

// --- From results to the stores ---

// Whether to give up: the job is to stop.
bool JobRun::WaitToRetry() {
  return stop_->WaitUnlessRequested(options_.retry_interval) || StopRequested();
}

// Repeats `write` while it fails for a reason that may pass and nobody gives up.
absl::Status JobRun::Patiently(absl::FunctionRef<absl::Status()> write,
                               absl::FunctionRef<bool()> wait_or_give_up) {
  bool reported = false;
  while (true) {
    absl::Status status = write();
    if (status.ok()) return status;
    if (!reported) Report(status);
    reported = true;
    if (!MayPass(status) || wait_or_give_up()) return status;
  }
}

absl::Status JobRun::Store(absl::Span<const char> bytes, v1::TensorRef* tensor) {
  const auto put = [&]() -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(*tensor->mutable_sha256(), tensors_->Put(bytes));
    return absl::OkStatus();
  };
  return Patiently(put, [this] { return WaitToRetry(); });
}

absl::Status JobRun::StoreTensors(Produced* produced) {
  for (size_t i = 0; i < produced->weights.size(); ++i) {
    v1::MatrixResult& matrix = *produced->message.mutable_matrices(static_cast<int>(i));
    const absl::Span<const uint8_t> mask = produced->result.matrices[i].mask.bytes();
    const absl::Span<const char> bits(reinterpret_cast<const char*>(mask.data()), mask.size());
    ATTNPRUNE_RETURN_IF_ERROR(Store(bits, matrix.mutable_mask()));
    ATTNPRUNE_RETURN_IF_ERROR(Store(produced->weights[i], matrix.mutable_weights()));
  }
  return absl::OkStatus();
}

absl::Status JobRun::StoreResult(int index, const v1::MethodResult& result) {
  std::vector<std::string> digests;
  for (const v1::MatrixResult& matrix : result.matrices()) {
    digests.push_back(matrix.mask().sha256());
    digests.push_back(matrix.weights().sha256());
  }
  writer_.Flush();  // the result comes after the method's progress
  const std::string bytes = result.SerializeAsString();
  absl::Status status =
      Patiently([&] { return jobs_->FinishMethod(claim_, index, bytes, digests).status(); },
                [this] { return WaitToRetry(); });
  if (absl::IsAborted(status)) stop_->Request(StopReason::kLapsed);
  store_failed_ = !status.ok();
  if (status.ok()) CountResult(result);
  return status;
}

// --- The end ---

// What has happened first counts: a job that has all its results is done, whatever came too late.
void JobRun::End(const absl::Status& status) {
  writer_.Flush();
  const StopReason reason = stop_->reason();
  if (reason == StopReason::kLapsed) return;
  if (store_failed_ && reason == StopReason::kNone) return;
  const absl::Status written =
      Patiently([&] { return status.ok() ? WriteCompleted() : WriteEnd(reason, status); },
                [this] { return stop_->WaitUnlessLeaving(options_.retry_interval); });
  if (absl::IsAborted(written)) stop_->Request(StopReason::kLapsed);
}

absl::Status JobRun::WriteEnd(StopReason reason, const absl::Status& status) {
  switch (reason) {
    case StopReason::kCancelled:
      return jobs_->Finish(claim_, JobState::kCancelled, {}, "cancelled");
    case StopReason::kTimedOut:
      return Fail(absl::DeadlineExceededError(absl::StrCat(
          "timeout of ", absl::FormatDuration(record_.timeout), " passed since the first start")));
    case StopReason::kDraining:
      return jobs_->Requeue(claim_, RequeueCause::kDraining, kServerDraining);
    case StopReason::kLapsed:
      return absl::OkStatus();
    case StopReason::kNone:
      break;
  }
  return Fail(status);
}

absl::Status JobRun::WriteCompleted() {
  if (usable_results_ == 0) return Fail(first_failure_);
  return jobs_->Finish(claim_, JobState::kSucceeded, {}, "");
}

absl::Status JobRun::Fail(const absl::Status& status) {
  const Failure failure{status.code(), std::string(status.message())};
  return jobs_->Finish(claim_, JobState::kFailed, failure, failure.message);
}

}  // namespace

void RunJob(const JobRecord& job, JobStore* jobs, BlobStore* tensors,
            const JobRunnerOptions& options, StopSignal* stop) {
  JobRun(job, jobs, tensors, options, stop).Run();
}

}  // namespace attnprune
