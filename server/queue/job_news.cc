#include "server/queue/job_news.h"

#include <algorithm>
#include <utility>

namespace attnprune {

std::shared_ptr<void> JobNews::Subscribe(const std::string& job_id, OnJobNews on_news) {
  const MutexLock lock(&mutex_);
  const int64_t number = next_number_++;
  by_job_[job_id].watchers.emplace(number, std::move(on_news));
  return std::shared_ptr<void>(nullptr,
                               [this, job_id, number](void*) { Unsubscribe(job_id, number); });
}

void JobNews::Unsubscribe(const std::string& job_id, int64_t number) {
  const MutexLock lock(&mutex_);
  const auto job = by_job_.find(job_id);
  job->second.watchers.erase(number);
  if (job->second.watchers.empty()) by_job_.erase(job);
}

// A clock that was set back does not keep anybody waiting.
bool JobNews::IsDue(const Watched& job, absl::Span<const StoredEvent> events) const {
  const auto is_progress = [](const StoredEvent& event) { return IsProgress(event.kind); };
  if (job.watchers.size() <= kNoCrowd || !std::all_of(events.begin(), events.end(), is_progress)) {
    return true;
  }
  const absl::Duration since = clock_->Now() - job.woken;
  return since < absl::ZeroDuration() ||
         since * kWakesPerSecond >= absl::Seconds(job.watchers.size());
}

void JobNews::OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) {
  const MutexLock lock(&mutex_);
  const auto job = by_job_.find(job_id);
  if (job == by_job_.end()) return;
  const bool at_once = IsDue(job->second, events);
  if (at_once) job->second.woken = clock_->Now();
  for (const auto& [number, on_news] : job->second.watchers) {
    on_news(events.back().sequence, at_once);
  }
}

}  // namespace attnprune
