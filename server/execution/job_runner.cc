#include "server/execution/job_runner.h"

#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "attnprune/v1/job.pb.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/objective/prepared_problem.h"
#include "server/execution/job_spec.h"
#include "server/execution/job_writer.h"
#include "server/execution/method_messages.h"
#include "server/execution/method_runner.h"
#include "server/execution/problem_builder.h"
#include "server/execution/retry.h"
#include "server/queue/scheduler.h"

namespace attnprune {
namespace {

absl::Time DeadlineOf(const JobRecord& job) {
  OutstandingJob outstanding;
  outstanding.timeout = job.timeout;
  outstanding.start_time = job.start_time;
  return Deadline(outstanding);
}

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
        writer_(jobs, claim_, WriterOptions(), stop),
        context_{record_, claim_,   spec_,
                 jobs_,   tensors_, options_,
                 stop_,   &writer_, [this] { return StopRequested(); }} {}

  void Run();

 private:
  int done() const { return static_cast<int>(record_.results.size()); }  // methods, by now
  JobWriterOptions WriterOptions();
  bool StopRequested();

  absl::Status ReadJob();
  absl::Status BuildAndRunMethods();
  void CountResult(const v1::MethodResult& result);
  absl::Status RunMethod(MethodRunner& runner, int index);

  absl::Status StoreTensors(MethodRunner::Produced* produced);
  absl::Status Store(absl::Span<const char> bytes, v1::TensorRef* tensor);
  absl::Status StoreResult(int index, const v1::MethodResult& result);
  absl::Status Retry(absl::FunctionRef<absl::Status()> write);

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

  const JobContext context_;

  v1::Job job_;
  JobSpec spec_;  // of job_, while its methods run
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

// --- From methods to results ---

void JobRun::Run() {
  absl::Status status;
  try {
    status = ReadJob();
    if (status.ok() && done() < job_.methods_size()) status = BuildAndRunMethods();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("the job needs more memory than the server has");
  }
  End(status);
}

absl::Status JobRun::ReadJob() {
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
  return absl::OkStatus();
}

absl::Status JobRun::BuildAndRunMethods() {
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop(context_));
  ATTNPRUNE_ASSIGN_OR_RETURN(spec_, DecodeJob(job_));
  const DenseAttention attention = WithinBudget(job_.estimate(), options_.memory_budget_bytes);
  std::string spill_folder;
  if (attention == DenseAttention::kRecompute) {
    spill_folder = options_.spill_folder;
    ATTNPRUNE_RETURN_IF_ERROR(CheckDiskRoom(spill_folder, SpilledBytes(spec_.shape),
                                            options_.min_free_disk_bytes, "the server's disk"));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const Problem problem,
                             BuildProblem(spec_, tensors_, context_.stopped, spill_folder));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<PreparedProblem> prepared,
      PreparedProblem::OfValid(problem, {.threads = options_.threads, .attention = attention}));
  MethodRunner runner(context_, *prepared);
  runner.Prepare();
  for (int i = done(); i < job_.methods_size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(RunMethod(runner, i));
  }
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

absl::Status JobRun::RunMethod(MethodRunner& runner, int index) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop(context_));
  absl::StatusOr<MethodRunner::Produced> produced = runner.Run(index);
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop(context_));
  if (!produced.ok()) {
    const std::string& label = spec_.methods[static_cast<size_t>(index)].label;
    return StoreResult(index, MakeFailedMethod(label, produced.status()));
  }
  ATTNPRUNE_RETURN_IF_ERROR(StoreTensors(&*produced));
  return StoreResult(index, produced->message);
}

// --- From results to the stores ---

absl::Status JobRun::Retry(absl::FunctionRef<absl::Status()> write) {
  return RetryTransient(
      write,
      [this] { return stop_->WaitUnlessRequested(options_.retry_interval) || StopRequested(); },
      [this](const absl::Status& status) { Report(status); });
}

absl::Status JobRun::Store(absl::Span<const char> bytes, v1::TensorRef* tensor) {
  const auto put = [&]() -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(*tensor->mutable_sha256(), tensors_->Put(bytes));
    return absl::OkStatus();
  };
  return Retry(put);
}

absl::Status JobRun::StoreTensors(MethodRunner::Produced* produced) {
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
      Retry([&] { return jobs_->FinishMethod(claim_, index, bytes, digests).status(); });
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
      RetryTransient([&] { return status.ok() ? WriteCompleted() : WriteEnd(reason, status); },
                     [this] { return stop_->WaitUnlessLeaving(options_.retry_interval); },
                     [this](const absl::Status& failure) { Report(failure); });
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
