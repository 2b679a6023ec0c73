// Several listeners on one store.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_LISTENERS_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_LISTENERS_H_

#include <string>
#include <utility>
#include <vector>

#include "server/queue/job_store.h"

namespace attnprune {

// Tells each in turn: JobListeners both({&hub, &workers}); store->SetListener(&both). Thread-safe
// if they are; they must outlive it.
class JobListeners final : public JobStoreListener {
 public:
  explicit JobListeners(std::vector<JobStoreListener*> listeners)
      : listeners_(std::move(listeners)) {}

  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override {
    for (JobStoreListener* listener : listeners_) listener->OnEvents(job_id, events);
  }
  void OnCancelRequested(const std::string& job_id) override {
    for (JobStoreListener* listener : listeners_) listener->OnCancelRequested(job_id);
  }

 private:
  const std::vector<JobStoreListener*> listeners_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_LISTENERS_H_
