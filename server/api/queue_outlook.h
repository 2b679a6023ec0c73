// What queued jobs and runs wait for, and when each may start, for all who ask.
#ifndef ATTNPRUNE_SERVER_API_QUEUE_OUTLOOK_H_
#define ATTNPRUNE_SERVER_API_QUEUE_OUTLOOK_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/access/caller.h"
#include "server/queue/job_record.h"
#include "server/queue/job_store.h"
#include "server/queue/scheduler.h"

namespace attnprune::api {

// When queued jobs start, the first worker that is free taking the next one: entry i of the i-th of
// them, the last entry, behind all, of one more. running_left: what those at work have left, below
// zero being nothing; queued_take: how long the queued ones run, in their order; workers: at least
// 1. Pure.
std::vector<absl::Time> StartTimes(absl::Time now, std::vector<absl::Duration> running_left,
                                   absl::Span<const absl::Duration> queued_take, int workers);

// The queue at one moment. To a caller it names the jobs at work that the caller sees, and counts
// the others. Immutable.
class QueueForecast {
 public:
  // Of a job that is queued by then; nullopt of others.
  absl::optional<v1::Waiting> WaitingOf(const access::Caller& caller, absl::string_view id) const;
  // Of a job that is queued; one that was not by then stands behind those of its priority.
  v1::Waiting WaitingOf(const access::Caller& caller, const JobRecord& job) const;

 private:
  friend class QueueOutlook;
  struct Running {
    std::string id, tenant;
  };
  v1::Waiting At(const access::Caller& caller, size_t place) const;

  absl::Time time_;
  size_t idle_workers_ = 0;
  std::vector<Running> running_;
  std::vector<int> priorities_;           // of the queued ones, in their order
  std::map<std::string, size_t> places_;  // of them, by id
  std::vector<absl::Time> starts_;        // by place; one more, behind all
};

struct QueueOutlookOptions {
  int workers = 1;          // of this server, at least 1; where more jobs run, so many are counted
  int threads_per_job = 1;  // of each: estimates are for one thread
};

// Reads the store's queue. A job's estimate is read once, what those at work have left every time:
// as a run's newest progress says, or a job's of its method, the methods behind it taking even
// shares of the estimate; without progress by the estimate and the time passed. At most kReads
// queued jobs' estimates are read for a forecast; others count as the mean of what is known. A
// forecast of a long queue serves for a second, or for 20 times what it took. Thread-safe. Calls
// wait for the disk.
class QueueOutlook {
 public:
  // Both must outlive this.
  QueueOutlook(const QueueOutlookOptions& options, JobStore* jobs, const Clock* clock)
      : options_(options), jobs_(jobs), clock_(clock) {}

  // Of a queue of up to kShortQueue jobs, those at work counted, as it is now.
  absl::StatusOr<std::shared_ptr<const QueueForecast>> Forecast();
  // Of a job that was queued by the newest forecast, while that serves; nullopt of others, and
  // where the queue cannot be read.
  absl::optional<v1::Waiting> RecentWaitingOf(const access::Caller& caller, absl::string_view id);

  // Of a job that is running; waits for nobody else's look at the queue.
  v1::AtWork AtWorkOf(const JobRecord& job) const;

  static constexpr size_t kShortQueue = 100;
  static constexpr size_t kReads = 200;

 private:
  // What a job takes on a worker's threads.
  struct Needs {
    int64_t fence = 0;  // of the job when they were read
    absl::Duration whole;
    absl::Duration rest;               // without the share of results that it has
    std::vector<std::string> methods;  // labels, of a job
    int results = 0;                   // of all of it
  };

  absl::StatusOr<std::shared_ptr<const QueueForecast>> Look(size_t fresh_up_to);
  QueueForecast ForecastOf(const Snapshot& snapshot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LearnNeeds(const Snapshot& snapshot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration TypicalRest() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Needs ReadNeeds(const OutstandingJob& job) const;
  Needs NeedsOf(const JobRecord& record) const;
  absl::Duration LeftOf(const OutstandingJob& job, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const QueueOutlookOptions options_;
  JobStore* const jobs_;
  const Clock* const clock_;

  Mutex mutex_;  // held while the store is read: those that wait want the same
  // Of outstanding jobs: all that run, and queued ones as far as they have been read.
  std::map<std::string, Needs> needs_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const QueueForecast> newest_ ABSL_GUARDED_BY(mutex_);
  absl::Duration serves_ ABSL_GUARDED_BY(mutex_);  // for so long, that one
};

// Jobs and runs as they are answered with: as record_convert.h makes them; of those that are
// running what they do and, of those that are queued, what they wait for, unless the queue cannot
// be read. Looks at it once for all jobs of an answer, when the first one needs it. Not
// thread-safe.
class QueueGlance {
 public:
  // Both must outlive it.
  QueueGlance(QueueOutlook* outlook, const access::Caller& caller)
      : outlook_(outlook), caller_(caller) {}

  absl::StatusOr<v1::Job> JobOf(const JobRecord& record);
  absl::StatusOr<v1::Run> RunOf(const JobRecord& record);

 private:
  absl::optional<v1::Waiting> WaitingOf(const JobRecord& record);
  template <typename Resource>
  void AddOutlook(const JobRecord& record, Resource& resource);

  QueueOutlook* const outlook_;
  const access::Caller& caller_;
  bool looked_ = false;
  std::shared_ptr<const QueueForecast> forecast_;
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_QUEUE_OUTLOOK_H_
