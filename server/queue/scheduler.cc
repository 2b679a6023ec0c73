#include "server/queue/scheduler.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

Action Make(Action::Kind kind, const OutstandingJob& job, absl::StatusCode code,
            std::string message) {
  return {kind, {job.id, job.fence}, code, std::move(message)};
}

Action TimedOut(Action::Kind kind, const OutstandingJob& job) {
  return Make(kind, job, absl::StatusCode::kDeadlineExceeded,
              absl::StrCat("timeout of ", absl::FormatDuration(job.timeout),
                           " passed since the first start"));
}

absl::optional<Action> OfQueued(const OutstandingJob& job, absl::Time now) {
  if (now >= Deadline(job)) return TimedOut(Action::Kind::kFail, job);
  return absl::nullopt;
}

absl::optional<Action> OfLiveWorker(const OutstandingJob& job, absl::Time now) {
  if (job.cancel_requested) {
    return Make(Action::Kind::kStopCancelled, job, absl::StatusCode::kOk, "cancelled");
  }
  if (now >= Deadline(job)) return TimedOut(Action::Kind::kStopTimedOut, job);
  return absl::nullopt;
}

}  // namespace

bool RunsBefore(const OutstandingJob& a, const OutstandingJob& b) {
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.number < b.number;
}

absl::Time Deadline(const OutstandingJob& job) {
  if (!job.start_time.has_value() || job.timeout <= absl::ZeroDuration()) {
    return absl::InfiniteFuture();
  }
  return *job.start_time + job.timeout;
}

const OutstandingJob* NextJob(const Snapshot& snapshot) {
  const OutstandingJob* next = nullptr;
  for (const OutstandingJob& job : snapshot.jobs) {
    if (job.state != JobState::kQueued) continue;
    if (next == nullptr || RunsBefore(job, *next)) next = &job;
  }
  return next;
}

Action OfLostWorker(const OutstandingJob& job, absl::Time now, const SchedulerPolicy& policy) {
  if (job.cancel_requested) {
    return Make(Action::Kind::kCancel, job, absl::StatusCode::kOk, "cancelled, worker lost");
  }
  if (now >= Deadline(job)) return TimedOut(Action::Kind::kFail, job);
  if (job.losses >= policy.max_losses) {
    return Make(Action::Kind::kFail, job, absl::StatusCode::kInternal,
                absl::StrCat("worker lost ", job.losses + 1,
                             " times in a row without getting further; perhaps the job needs more "
                             "memory than the server has"));
  }
  return Make(Action::Kind::kRequeue, job, absl::StatusCode::kOk, "worker lost");
}

std::vector<Action> Overdue(const Snapshot& snapshot, const SchedulerPolicy& policy) {
  std::vector<Action> actions;
  const absl::Time now = snapshot.now;
  for (const OutstandingJob& job : snapshot.jobs) {
    absl::optional<Action> action;
    if (job.state == JobState::kQueued) {
      action = OfQueued(job, now);
    } else if (job.state == JobState::kRunning) {
      action = now >= job.lease_until ? OfLostWorker(job, now, policy) : OfLiveWorker(job, now);
    }
    if (action.has_value()) actions.push_back(*std::move(action));
  }
  return actions;
}

}  // namespace attnprune
