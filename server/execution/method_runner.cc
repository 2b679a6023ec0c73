#include "server/execution/method_runner.h"

#include <chrono>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "attnprune/v1/prune_service.pb.h"
#include "core/base/status_macros.h"
#include "core/methods/registry.h"
#include "core/methods/solver_state.h"
#include "server/execution/method_messages.h"
#include "server/execution/problem_builder.h"
#include "server/execution/retry.h"
#include "server/execution/stored_weights.h"

namespace attnprune {
namespace {

// A phase of a job that takes long but has no steps. Writes an event when it is made, when another
// hundredth is done, and at the end. One thread.
class JobPhase {
 public:
  // method: the label, or empty. writer must outlive the phase.
  JobPhase(v1::Phase phase, std::string method, JobWriter* writer);

  // share: that is done, in [0, 1].
  void Advance(double share);
  double seconds() const;  // since it was made

 private:
  void Write();

  const v1::Phase phase_;
  const std::string method_;
  JobWriter* const writer_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double written_ = 0;  // the share that was written last
};

JobPhase::JobPhase(v1::Phase phase, std::string method, JobWriter* writer)
    : phase_(phase), method_(std::move(method)), writer_(writer) {
  Write();
}

void JobPhase::Advance(double share) {
  constexpr double kLeastStep = 0.01;
  if (share < written_ + kLeastStep && (share < 1 || written_ >= 1)) return;
  written_ = share;
  Write();
}

double JobPhase::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void JobPhase::Write() {
  writer_->AddProgress(MakePhaseProgress(phase_, method_, written_, seconds()).SerializeAsString(),
                       EventKind::kProgress);
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

}  // namespace

absl::Status CheckKept(const JobContext& context) {
  return context.stop->reason() == StopReason::kCancelled ? absl::OkStatus() : CheckStop(context);
}

absl::Status CheckStop(const JobContext& context) {
  return context.stopped() ? absl::CancelledError("the job is to stop") : absl::OkStatus();
}

void MethodRunner::Prepare() {
  const Problem& problem = problem_.problem();
  const bool has_held_out = problem.held_out.count() > 0;
  const auto calibration = static_cast<double>(problem.calibration.total_tokens());
  const double held_out = has_held_out ? static_cast<double>(problem.held_out.total_tokens()) : 0;
  const double all = calibration + held_out;
  JobPhase preparing(v1::PREPARING, "", context_.writer);
  const absl::Status status =
      problem_.Calibration([&](double share) { preparing.Advance(share * calibration / all); })
          .status();
  if (status.ok() && has_held_out) {
    problem_
        .HeldOut([&](double share) { preparing.Advance((calibration + share * held_out) / all); })
        .IgnoreError();
  }
  preparing_seconds_ = preparing.seconds();
}

absl::StatusOr<MethodRunner::Produced> MethodRunner::Run(int index) {
  const JobSpec& job = context_.job;
  const std::string& label = MethodAt(index).label;
  Produced produced;
  ATTNPRUNE_ASSIGN_OR_RETURN(Solved solved, Solve(index));
  ATTNPRUNE_RETURN_IF_ERROR(CheckKept(context_));
  ATTNPRUNE_ASSIGN_OR_RETURN(produced.weights,
                             RoundToStored(job.weights, *context_.tensors, &solved.result));
  JobPhase judging(v1::JUDGING, label, context_.writer);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Score score,
      judge_.Judge(solved.result, [&judging](double share) { judging.Advance(share); }));
  produced.message = MakeMethodResult(label, job.weights, solved.result, score, solved.seconds);
  produced.message.set_judging_seconds(judging.seconds());
  produced.message.set_preparing_seconds(std::exchange(preparing_seconds_, 0));
  produced.message.set_held_out_source(HeldOutSourceOf(job, problem_.problem()));
  produced.result = std::move(solved.result);
  if (produced.result.reason == TerminationReason::kNumericalError) {
    context_.writer->AddWarning(absl::StrCat(label, ": the loss is no longer finite after ",
                                             produced.result.steps,
                                             " steps; the result is the last finite mask"));
  }
  return produced;
}

absl::StatusOr<MethodRunner::Solved> MethodRunner::Solve(int index) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const ChosenMethod chosen, ChooseMethod(MethodAt(index).spec));
  const std::unique_ptr<Method> method = chosen.Create();
  RunOptions options;
  options.evaluate_every = EvaluateEvery(context_.job, chosen.StepsAtMost());
  options.seed = context_.job.seed;
  if (absl::optional<MethodCheckpoint> checkpoint = ReadCheckpoint(index)) {
    RunOptions resumed = options;
    resumed.resume_from = std::move(checkpoint->state);
    absl::StatusOr<Solved> solved =
        Attempt(*method, index, checkpoint->seconds, std::move(resumed));
    if (solved.ok() || !IsResumeRefused(solved.status())) return solved;
    context_.writer->AddWarning(
        absl::StrCat(MethodAt(index).label, " starts over: ", solved.status().message()));
  }
  return Attempt(*method, index, 0, std::move(options));
}

absl::StatusOr<MethodRunner::Solved> MethodRunner::Attempt(const Method& method, int index,
                                                           double seconds_before,
                                                           RunOptions options) {
  SolveObserver* const solves = context_.options.observer;
  const int worker = context_.options.worker;
  const auto on_step = [solves, worker](const StepStats& stats) {
    if (solves != nullptr) solves->OnStep(worker, stats);
  };
  if (solves != nullptr) solves->OnMethodBegin(worker, MethodAt(index).spec.name);
  const absl::Cleanup end = [solves, worker] {
    if (solves != nullptr) solves->OnMethodEnd(worker);
  };
  MethodObserver observer(index, MethodAt(index).label, seconds_before, context_.writer,
                          context_.stop, context_.stopped, on_step);
  ATTNPRUNE_ASSIGN_OR_RETURN(PruneResult result,
                             method.Prune(problem_, std::move(options), observer));
  const double seconds = seconds_before + result.seconds;
  return Solved{std::move(result), seconds};
}

// Of the method that an earlier attempt was in; nothing to go on from is no error.
absl::optional<MethodCheckpoint> MethodRunner::ReadCheckpoint(int index) {
  const JobRecord& record = context_.record;
  if (!record.has_checkpoint || index != static_cast<int>(record.results.size())) {
    return absl::nullopt;
  }
  absl::StatusOr<absl::optional<std::string>> bytes;
  const auto read = [&] {
    bytes = context_.jobs->ReadCheckpoint(context_.claim);
    return bytes.status();
  };
  const auto wait_or_give_up = [&] {
    return context_.stop->WaitUnlessRequested(context_.options.retry_interval) ||
           context_.stopped();
  };
  absl::Status status =
      RetryTransient(read, wait_or_give_up, [](const absl::Status& /*failure*/) {});
  if (IsTransient(status)) return absl::nullopt;  // the job is to stop
  if (status.ok() && bytes->has_value()) {
    absl::StatusOr<MethodCheckpoint> checkpoint = ParseMethodCheckpoint(**std::move(bytes));
    if (checkpoint.ok() && checkpoint->method_index == index) return *std::move(checkpoint);
    status = checkpoint.ok() ? absl::DataLossError("the checkpoint is another method's")
                             : checkpoint.status();
  }
  if (absl::IsAborted(status)) context_.stop->Request(StopReason::kLapsed);
  if (!status.ok()) {
    context_.writer->AddWarning(
        absl::StrCat(MethodAt(index).label, " starts over: ", status.message()));
  }
  return absl::nullopt;
}

}  // namespace attnprune
