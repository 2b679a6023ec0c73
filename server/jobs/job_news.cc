#include "server/jobs/job_news.h"

#include <utility>

namespace attnprune {

std::shared_ptr<void> JobNews::Subscribe(const std::string& job_id, std::function<void()> on_news) {
  const MutexLock lock(&mutex_);
  const int64_t number = next_number_++;
  by_job_[job_id].emplace(number, std::move(on_news));
  return std::shared_ptr<void>(nullptr,
                               [this, job_id, number](void*) { Unsubscribe(job_id, number); });
}

void JobNews::Unsubscribe(const std::string& job_id, int64_t number) {
  const MutexLock lock(&mutex_);
  const auto job = by_job_.find(job_id);
  job->second.erase(number);
  if (job->second.empty()) by_job_.erase(job);
}

void JobNews::OnEvents(const std::string& job_id, absl::Span<const StoredEvent>) {
  const MutexLock lock(&mutex_);
  const auto job = by_job_.find(job_id);
  if (job == by_job_.end()) return;
  for (const auto& [number, on_news] : job->second) on_news();
}

}  // namespace attnprune
