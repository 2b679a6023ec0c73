// Jobs and their methods, counted from the store's news.
#ifndef ATTNPRUNE_SERVER_OBSERVE_JOB_METRICS_H_
#define ATTNPRUNE_SERVER_OBSERVE_JOB_METRICS_H_

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/observe/exposition.h"
#include "server/observe/instruments.h"
#include "server/queue/job_store.h"

namespace attnprune {

// Thread-safe. Its lock is a leaf, held for a few map operations.
class JobMetrics final : public JobStoreListener {
 public:
  // methods: all there are; others count as "other". clock must outlive this.
  JobMetrics(const std::vector<std::string>& methods, const Clock* clock);

  // Finds the jobs that wait in the store already, the 1,000 oldest, before it is told of any
  // others. Errors: the store's.
  absl::Status FindQueued(JobStore* store);

  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override;
  void OnCancelRequested(const std::string&) override {}
  // Counts nothing: that server does. Keeps who waits and who runs here as it is.
  void OnRemoteChange(const JobChange& job) override;
  // A job's figures could not be written, or a store did not answer.
  void OnTrouble() { trouble_.Add(); }

  void AddTo(Exposition& out) const;

 private:
  void OnState(const std::string& job_id, const StoredEvent& event);
  void OnResult(JobKind kind, const StoredEvent& event);
  void OnRunResult(const StoredEvent& event);
  void Enqueue(const std::string& job_id, absl::Time time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Dequeue(const std::string& job_id, absl::Time time, bool claimed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndRun(const std::string& job_id, absl::Time time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddMethods(Exposition& out) const;

  const std::vector<std::string> methods_;  // from 1 on; 0 is "other"
  const Clock* const clock_;
  const absl::Time start_;

  Counter created_, warnings_, trouble_;
  Counter lost_, drained_;                // requeued because of
  Counter finished_[3];                   // succeeded, failed, cancelled
  Histogram queue_wait_, run_;            // seconds
  CounterTable outcomes_;                 // method x outcome
  std::deque<Histogram> method_seconds_;  // by method

  mutable Mutex mutex_;
  std::map<std::string, absl::Time> queued_ ABSL_GUARDED_BY(mutex_);
  std::multiset<absl::Time> queued_since_ ABSL_GUARDED_BY(mutex_);  // the values of queued_
  std::map<std::string, absl::Time> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_JOB_METRICS_H_
