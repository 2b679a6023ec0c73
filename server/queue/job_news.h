// Wakes those who follow a job's log.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_NEWS_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_NEWS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/queue/job_store.h"

namespace attnprune {

// The log reaches up to last_sequence. at_once false: by progress alone, and the crowd that follows
// it has been woken a moment ago; it may be read with what comes next.
using OnJobNews = std::function<void(int64_t last_sequence, bool at_once)>;

// Listens to a store and tells subscribers that a job's log has grown; they read what is new from
// the store, which is where it is kept. Thread-safe. Must outlive its handles.
class JobNews final : public JobStoreListener {
 public:
  // clock must outlive this.
  explicit JobNews(const Clock* clock) : clock_(clock) {}

  // Calls on_news, from any thread, after each write to the job's log, until the returned handle is
  // destroyed; that waits for a call under way. on_news returns quickly and calls neither the store
  // nor this.
  std::shared_ptr<void> Subscribe(const std::string& job_id, OnJobNews on_news);

  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override;
  void OnCancelRequested(const std::string&) override {}  // not in the log

  // Waking a watcher takes some 0.2 ms of a core, his own side of it included, and the solver needs
  // the cores: so many a second are woken for progress, on each job. 20 see every write of a job,
  // which come 10 times a second; 200 see one a second.
  static constexpr int kWakesPerSecond = 200;
  static constexpr int kNoCrowd = 20;  // watchers who are always woken at once

 private:
  struct Watched {
    std::map<int64_t, OnJobNews> watchers;
    absl::Time woken = absl::InfinitePast();  // all of them, last
  };

  void Unsubscribe(const std::string& job_id, int64_t number);
  bool IsDue(const Watched& job, absl::Span<const StoredEvent> events) const;

  const Clock* const clock_;
  Mutex mutex_;
  int64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Watched> by_job_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_NEWS_H_
