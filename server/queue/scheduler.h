// What is to be done about queued and running jobs: pure functions on a snapshot. Acting is the
// caller's; every action carries the fence it was decided on, so that one decided too late is
// refused.
#ifndef ATTNPRUNE_SERVER_QUEUE_SCHEDULER_H_
#define ATTNPRUNE_SERVER_QUEUE_SCHEDULER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "server/queue/job_record.h"

namespace attnprune {

// A queued or running job as the scheduler sees it.
struct OutstandingJob {
  std::string id;
  JobState state = JobState::kQueued;
  int64_t number = 0;  // order of creation
  int priority = 0;
  int64_t fence = 0;
  absl::Duration timeout = absl::ZeroDuration();  // zero: none
  absl::optional<absl::Time> start_time;          // of the first claim
  absl::Time lease_until;                         // running only
  bool cancel_requested = false;                  // running only
  int losses = 0;
  std::string tenant = {};
};

struct Snapshot {
  absl::Time now;  // the store's
  std::vector<OutstandingJob> jobs;
  // By tenant: grows with each claim of a job of any of them. A tenant that is not in it has had no
  // turn.
  std::map<std::string, int64_t> turns = {};
};

struct SchedulerPolicy {
  // A job may lose its worker this often in a row without getting further; after that it is taken
  // to be what kills them, and fails. A server killed again and again loses a worker each time.
  int max_losses = 20;
};

struct Action {
  enum class Kind {
    kRequeue,       // JobStore::Requeue(claim, kWorkerLost, message)
    kFail,          // JobStore::Finish(claim, kFailed, {code, message}, "")
    kCancel,        // JobStore::Finish(claim, kCancelled, {}, message)
    kStopTimedOut,  // tell the live worker; it ends the job with Finish and DEADLINE_EXCEEDED
    kStopCancelled  // tell the live worker; it ends the job with Finish and kCancelled
  };
  Kind kind = Kind::kRequeue;
  JobClaim claim;
  absl::StatusCode code = absl::StatusCode::kOk;  // kFail and kStopTimedOut
  std::string message;
};

// The queued job to run next: of the highest priority; of these, of the tenant whose last turn was
// longest ago; of its, the oldest. So tenants take turns within a priority. A tenant of which
// max_running_per_tenant jobs run, 0: any number, waits. nullptr if none may run. Points into the
// snapshot.
const OutstandingJob* NextJob(const Snapshot& snapshot, int64_t max_running_per_tenant = 0);

// All queued jobs, in the order in which NextJob picks them one after the other where no other
// comes and none is held back by how many run. Point into the snapshot.
std::vector<const OutstandingJob*> ClaimOrder(const Snapshot& snapshot);

// What the passing of time and lost workers ask for; at most one action a job, in the snapshot's
// order. A lease is over when `snapshot.now` has reached lease_until. Of several reasons a cancel
// request counts first, then the timeout, then the lost worker.
std::vector<Action> Overdue(const Snapshot& snapshot, const SchedulerPolicy& policy);

// Until the next lease ends of those that are not over; InfiniteDuration if no job has one.
absl::Duration UntilLeaseEnds(const Snapshot& snapshot);

// What to do about a running job whose worker is known to be dead, whatever its lease says.
Action OfLostWorker(const OutstandingJob& job, absl::Time now, const SchedulerPolicy& policy);

// When the job times out; InfiniteFuture before its first start or without a timeout.
absl::Time Deadline(const OutstandingJob& job);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SCHEDULER_H_
