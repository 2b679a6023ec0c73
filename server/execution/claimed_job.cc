#include "server/execution/claimed_job.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
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

}  // namespace

ClaimedJob::ClaimedJob(const JobRecord& record, JobClaim claim, JobStore* jobs, BlobStore* tensors,
                       const JobRunnerOptions& options, StopSignal* stop)
    : record_(record),
      claim_(std::move(claim)),
      deadline_(DeadlineOf(record)),
      jobs_(jobs),
      tensors_(tensors),
      options_(options),
      stop_(stop),
      writer_(jobs, claim_, WriterOptions(), stop) {}

JobWriterOptions ClaimedJob::WriterOptions() {
  return {options_.progress_interval, options_.checkpoint_interval, options_.clock,
          [this](const absl::Status& status) { Report(status); },
          [this](bool written, size_t bytes) {
            if (options_.observer == nullptr) return;
            options_.observer->OnCheckpoint(options_.worker, written, bytes);
          }};
}

void ClaimedJob::Report(const absl::Status& status) {
  if (options_.on_trouble) options_.on_trouble(claim_.id, status);
}

bool ClaimedJob::StopRequested() {
  if (!stop_->requested() && options_.clock->Now() >= deadline_) {
    stop_->Request(StopReason::kTimedOut);
  }
  return stop_->requested();
}

absl::Status ClaimedJob::CheckStop() {
  return StopRequested() ? absl::CancelledError("the job is to stop") : absl::OkStatus();
}

absl::Status ClaimedJob::Retry(absl::FunctionRef<absl::Status()> call) {
  return RetryTransient(
      call,
      [this] { return stop_->WaitUnlessRequested(options_.retry_interval) || StopRequested(); },
      [this](const absl::Status& status) { Report(status); });
}

absl::StatusOr<std::string> ClaimedJob::Put(absl::Span<const char> bytes, absl::string_view tail) {
  std::string digest;
  const auto put = [&]() -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(digest, tensors_->Put(bytes, tail));
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Retry(put));
  return digest;
}

absl::StatusOr<absl::optional<std::string>> ClaimedJob::ReadCheckpoint() {
  absl::StatusOr<absl::optional<std::string>> bytes;
  const auto read = [&] {
    bytes = jobs_->ReadCheckpoint(claim_);
    return bytes.status();
  };
  ATTNPRUNE_RETURN_IF_ERROR(Retry(read));
  return bytes;
}

absl::Status ClaimedJob::Write(absl::FunctionRef<absl::Status()> write) {
  absl::Status status = Retry(write);
  if (absl::IsAborted(status)) stop_->Request(StopReason::kLapsed);
  store_failed_ = !status.ok();
  return status;
}

absl::Status ClaimedJob::StoreResult(int index, const std::string& bytes,
                                     absl::Span<const std::string> digests,
                                     const absl::optional<std::vector<std::string>>& state) {
  writer_.Flush();  // the result comes after its progress
  return Write([&] { return jobs_->FinishMethod(claim_, index, bytes, digests, state).status(); });
}

// CANCELLED: nothing is to be written any more.
absl::Status ClaimedJob::WriteLast(absl::FunctionRef<absl::Status()> write) {
  writer_.Flush();
  const StopReason reason = stop_->reason();
  if (reason == StopReason::kLapsed || (store_failed_ && reason == StopReason::kNone)) {
    return absl::CancelledError("left to another attempt");
  }
  absl::Status written = RetryTransient(
      write, [this] { return stop_->WaitUnlessLeaving(options_.retry_interval); },
      [this](const absl::Status& failure) {
        // A part may lapse at any time: its job was stopped.
        if (claim_.whole() || !absl::IsAborted(failure)) Report(failure);
      });
  if (absl::IsAborted(written)) stop_->Request(StopReason::kLapsed);
  return written;
}

void ClaimedJob::AwaitReturn() {
  constexpr int kLongest = 6;  // about a minute
  const int attempt = std::min(record_.attempt, kLongest);
  stop_->WaitUnlessRequested(options_.retry_interval * (1 << attempt));
}

void ClaimedJob::End(const absl::Status& status, absl::FunctionRef<absl::Status()> outcome) {
  if (absl::IsUnavailable(status) && !StopRequested()) {
    Report(status);
    AwaitReturn();
  }
  WriteLast([&] { return WriteEnd(status, outcome); }).IgnoreError();
}

bool ClaimedJob::EndPart(const absl::Status& status) {
  const bool written = WriteLast([&] {
                         return status.ok() ? jobs_->FinishPart(claim_)
                                            : jobs_->Requeue(claim_, RequeueCause::kDraining, "");
                       }).ok();
  return status.ok() && written;
}

absl::Status ClaimedJob::WriteEnd(const absl::Status& status,
                                  absl::FunctionRef<absl::Status()> outcome) {
  if (status.ok()) {
    const absl::Status came = outcome();
    return came.ok() ? jobs_->Finish(claim_, JobState::kSucceeded, {}, "") : Fail(came);
  }
  const StopReason reason = stop_->reason();
  if (reason != StopReason::kNone) return WriteStopped(reason);
  if (!absl::IsUnavailable(status)) return Fail(status);
  return jobs_->Requeue(claim_, RequeueCause::kDraining, status.message());
}

absl::Status ClaimedJob::WriteStopped(StopReason reason) {
  switch (reason) {
    case StopReason::kCancelled:
      return jobs_->Finish(claim_, JobState::kCancelled, {}, "cancelled");
    case StopReason::kTimedOut:
      return Fail(absl::DeadlineExceededError(absl::StrCat(
          "timeout of ", absl::FormatDuration(record_.timeout), " passed since the first start")));
    case StopReason::kDraining:
      return jobs_->Requeue(claim_, RequeueCause::kDraining, kServerDraining);
    case StopReason::kLapsed:
    case StopReason::kNone:
      break;
  }
  return absl::OkStatus();
}

absl::Status ClaimedJob::Fail(const absl::Status& status) {
  const Failure failure{status.code(), std::string(status.message())};
  return jobs_->Finish(claim_, JobState::kFailed, failure, failure.message);
}

}  // namespace attnprune
