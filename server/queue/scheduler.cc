#include "server/queue/scheduler.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <set>
#include <tuple>
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

int64_t TurnOf(const std::map<std::string, int64_t>& turns, const std::string& tenant) {
  const auto found = turns.find(tenant);
  return found == turns.end() ? 0 : found->second;
}

using TenantQueues = std::map<std::string, std::deque<const OutstandingJob*>>;

// Adds the jobs of one priority to `order`, one of each tenant in turn, and gives the turns.
void TakeTurns(TenantQueues& queues, std::map<std::string, int64_t>& turns, int64_t& newest,
               std::vector<const OutstandingJob*>& order) {
  std::set<std::tuple<int64_t, int64_t, std::string>> waiting;  // turn, number, tenant
  const auto wait = [&](const std::string& tenant) {
    const auto& queue = queues[tenant];
    if (!queue.empty()) waiting.emplace(TurnOf(turns, tenant), queue.front()->number, tenant);
  };
  for (const auto& [tenant, queue] : queues) wait(tenant);
  while (!waiting.empty()) {
    const std::string tenant = std::get<2>(*waiting.begin());
    waiting.erase(waiting.begin());
    order.push_back(queues[tenant].front());
    queues[tenant].pop_front();
    turns[tenant] = ++newest;
    wait(tenant);
  }
}

}  // namespace

absl::Time Deadline(const OutstandingJob& job) {
  if (!job.start_time.has_value() || job.timeout <= absl::ZeroDuration()) {
    return absl::InfiniteFuture();
  }
  return *job.start_time + job.timeout;
}

const OutstandingJob* NextJob(const Snapshot& snapshot, int64_t max_running_per_tenant) {
  std::map<std::string, int64_t> running;
  for (const OutstandingJob& job : snapshot.jobs) {
    if (job.state == JobState::kRunning) ++running[job.tenant];
  }
  const auto place = [&](const OutstandingJob& job) {
    return std::tuple(-int64_t{job.priority}, TurnOf(snapshot.turns, job.tenant), job.number);
  };
  const OutstandingJob* next = nullptr;
  for (const OutstandingJob& job : snapshot.jobs) {
    if (job.state != JobState::kQueued) continue;
    if (max_running_per_tenant > 0 && running[job.tenant] >= max_running_per_tenant) continue;
    if (next == nullptr || place(job) < place(*next)) next = &job;
  }
  return next;
}

std::vector<const OutstandingJob*> ClaimOrder(const Snapshot& snapshot) {
  std::vector<const OutstandingJob*> queued;
  for (const OutstandingJob& job : snapshot.jobs) {
    if (job.state == JobState::kQueued) queued.push_back(&job);
  }
  std::sort(queued.begin(), queued.end(),
            [](const auto* a, const auto* b) { return a->number < b->number; });
  std::map<int, TenantQueues, std::greater<>> by_priority;
  for (const OutstandingJob* const job : queued) {
    by_priority[job->priority][job->tenant].push_back(job);
  }
  std::vector<const OutstandingJob*> order;
  std::map<std::string, int64_t> turns = snapshot.turns;
  int64_t newest = 0;
  for (const auto& [tenant, turn] : turns) newest = std::max(newest, turn);
  for (auto& [priority, queues] : by_priority) TakeTurns(queues, turns, newest, order);
  return order;
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

absl::Duration UntilLeaseEnds(const Snapshot& snapshot) {
  absl::Time next = absl::InfiniteFuture();
  for (const OutstandingJob& job : snapshot.jobs) {
    const bool holds = job.state == JobState::kRunning && job.lease_until > snapshot.now;
    if (holds) next = std::min(next, job.lease_until);
  }
  return next - snapshot.now;
}

}  // namespace attnprune
