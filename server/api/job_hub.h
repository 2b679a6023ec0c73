// The one hub of news: wakes the watchers of a job when its event log has grown, and reads and
// decodes what is new once for all of them.
#ifndef ATTNPRUNE_SERVER_API_JOB_HUB_H_
#define ATTNPRUNE_SERVER_API_JOB_HUB_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/access/caller.h"
#include "server/api/event_log.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// Between two turns in which each of `watchers` is sent something, `per_second` of them in all.
// Pure.
absl::Duration TurnInterval(size_t watchers, int per_second);

// When a watcher is woken.
enum class Pace {
  kCrowd,       // at every write; for progress less often while many watch (JobHub)
  kEveryWrite,  // at every write: for a watcher that passes the news on at a pace of its own
};

class JobWatch;

// Listens to a store. Thread-safe; must outlive its watches. Its lock is not held while the store
// is read.
class JobHub final : public JobStoreListener {
 public:
  // Both must outlive this.
  JobHub(JobStore* jobs, const Clock* clock) : jobs_(jobs), clock_(clock) {}

  // The place after the event `after_sequence` of the job; reads where its log ends and nothing
  // else. NOT_FOUND, also of another tenant's; INVALID_ARGUMENT: not a name, or no event has that
  // sequence yet; OUT_OF_RANGE (ErrorInfo, "oldest_sequence"): compacted away.
  absl::StatusOr<LogPlace> Open(const access::Caller& caller, absl::string_view name,
                                int64_t after_sequence) const;

  // Joins the job's watchers; the first read comes after this, so that nothing is missed between
  // the two. `wake` is called from any thread with locks held: it returns quickly and calls neither
  // the store nor the hub, nor destroys the watch.
  std::shared_ptr<JobWatch> Watch(const std::string& job_id, Pace pace, std::function<void()> wake);

  // How many watches a job has: by it tests see that none is left behind.
  size_t CountWatches(const std::string& job_id) const;

  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override;
  void OnCancelRequested(const std::string&) override {}  // not in the log
  // A crowd learns of it at its pace, at once that the job does not run any more.
  void OnRemoteChange(const JobChange& job) override;

  // Waking a watcher takes some 0.2 ms of a core, the client's side included, and the solver needs
  // the cores: so many a second are woken for progress, on each job. 20 see every write of a job,
  // which come 10 times a second; 200 see one a second.
  static constexpr int kWakesPerSecond = 200;
  static constexpr int kNoCrowd = 20;  // watches that are always woken at once

  // Progress events that a batch has at most before it is thinned out: fewer the more watches there
  // are. Pure.
  static int MaxProgress(int64_t watches);

 private:
  friend class JobWatch;

  // What the watches of one job share. `watches` and `woken` are the hub's, under its lock.
  struct Topic {
    explicit Topic(std::string id) : job_id(std::move(id)) {}

    const std::string job_id;
    std::set<JobWatch*> watches;
    absl::Time woken = absl::InfinitePast();  // all of them, last
    std::atomic<int64_t> count{0};            // of watches
    std::atomic<int64_t> newest{0};           // event told of

    Mutex mutex;  // held while the store is read: those that wait want the same
    std::deque<SharedBatch> newest_batches ABSL_GUARDED_BY(mutex);
  };
  static constexpr size_t kKeptBatches = 4;  // watchers further behind share less

  void Leave(JobWatch* watch);
  enum class Urgency { kProgress, kAtOnce };
  bool IsDue(const Topic& topic, Urgency urgency) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tell(Topic& topic, int64_t newest, Urgency urgency) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<SharedBatch> ReadShared(Topic& topic, int64_t after) const;

  JobStore* const jobs_;
  const Clock* const clock_;
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<Topic>> topics_ ABSL_GUARDED_BY(mutex_);
};

// One watcher of a job, until it is destroyed, which waits for a wake under way. Thread-safe.
class JobWatch {
 public:
  ~JobWatch() { hub_->Leave(this); }
  JobWatch(const JobWatch&) = delete;
  JobWatch& operator=(const JobWatch&) = delete;

  // What follows `after`: ReadLog, or ReadThinned with MaxProgress, which watches at the same place
  // share. Waits for the store.
  absl::StatusOr<SharedBatch> Read(int64_t after, Detail detail) const;

  // The newest event told of; woken for or not.
  int64_t newest() const { return topic_->newest; }
  // The same, of a watcher that was woken and acts on it: the next news wake it again. Until then
  // many news are one wake.
  int64_t TakeNews() {
    woken_ = false;
    return newest();
  }

 private:
  friend class JobHub;
  JobWatch(JobHub* hub, std::shared_ptr<JobHub::Topic> topic, Pace pace, std::function<void()> wake)
      : hub_(hub), topic_(std::move(topic)), pace_(pace), wake_(std::move(wake)) {}

  void Wake() {
    if (!woken_.exchange(true)) wake_();
  }

  JobHub* const hub_;
  const std::shared_ptr<JobHub::Topic> topic_;
  const Pace pace_;
  const std::function<void()> wake_;
  std::atomic<bool> woken_{false};
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_JOB_HUB_H_
