// Wakes those who follow a job's log.
#ifndef ATTNPRUNE_SERVER_JOBS_JOB_NEWS_H_
#define ATTNPRUNE_SERVER_JOBS_JOB_NEWS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/base/mutex.h"
#include "server/jobs/job_store.h"

namespace attnprune {

// Listens to a store and tells subscribers that a job's log has grown; they read what is new from
// the store, which is where it is kept. Thread-safe. Must outlive its handles.
class JobNews final : public JobStoreListener {
 public:
  // Calls on_news, from any thread, after each write to the job's log, until the returned handle is
  // destroyed; that waits for a call under way. on_news returns quickly and calls neither the store
  // nor this.
  std::shared_ptr<void> Subscribe(const std::string& job_id, std::function<void()> on_news);

  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override;
  void OnCancelRequested(const std::string&) override {}  // not in the log

 private:
  void Unsubscribe(const std::string& job_id, int64_t number);

  Mutex mutex_;
  int64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::map<int64_t, std::function<void()>>> by_job_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_JOBS_JOB_NEWS_H_
