// How a running job is told to stop.
#ifndef ATTNPRUNE_SERVER_EXECUTION_STOP_SIGNAL_H_
#define ATTNPRUNE_SERVER_EXECUTION_STOP_SIGNAL_H_

#include <atomic>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace attnprune {

enum class StopReason {
  kNone,
  kCancelled,  // the job ends as CANCELLED
  kTimedOut,   // the job ends as FAILED, DEADLINE_EXCEEDED
  kDraining,   // the job goes back into the queue with a checkpoint
  kLapsed,     // the job is another's by now: nothing of it may be written any more
};

// Why a draining job is back in the queue: in the job's log, and what metrics know it by.
inline constexpr char kServerDraining[] = "server draining";

// Thread-safe. Its lock is a leaf.
class StopSignal {
 public:
  // The first reason counts, except that kLapsed overrides all. reason() sees it at once.
  void Request(StopReason reason);

  StopReason reason() const { return reason_.load(std::memory_order_acquire); }
  bool requested() const { return reason() != StopReason::kNone; }
  // Whether there is no time left for more than one try at a write: draining, even of a job that is
  // to be stopped for another reason, or lapsed.
  bool leaving() const { return leaving_.load(std::memory_order_acquire); }

  // Wait for `duration` of real time, but no longer than until requested() or leaving(), which they
  // return.
  bool WaitUnlessRequested(absl::Duration duration);
  bool WaitUnlessLeaving(absl::Duration duration);

 private:
  Mutex mutex_;
  CondVar changed_;
  // Written with mutex_ held, so that a waiter misses nothing; read without, by the solver at every
  // step.
  std::atomic<StopReason> reason_{StopReason::kNone};
  std::atomic<bool> leaving_{false};
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_STOP_SIGNAL_H_
