#include "server/api/job_hub.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/api/request_check.h"
#include "server/api/seen_job.h"

namespace attnprune::api {

absl::Duration TurnInterval(size_t watchers, int per_second) {
  return absl::Seconds(1) * static_cast<double>(watchers) / per_second;
}

int JobHub::MaxProgress(int64_t watches) {
  constexpr int64_t kFew = 16, kOfAllWatches = 256;
  return static_cast<int>(
      std::clamp<int64_t>(kOfAllWatches / std::max<int64_t>(watches, 1), 1, kFew));
}

absl::StatusOr<LogPlace> JobHub::Open(const access::Caller& caller, absl::string_view name,
                                      int64_t after_sequence) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string id, ParseWatchedName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const LogExtent log, ReadSeenExtent(caller, jobs_, id));
  if (after_sequence < 0 || after_sequence > log.newest_sequence) {
    return FieldError("after_sequence",
                      absl::StrCat("must be in [0, ", log.newest_sequence, "], the last event of ",
                                   name, ", got ", after_sequence));
  }
  if (after_sequence < log.oldest_sequence - 1) {
    return WithOldestSequence(HistoryDroppedError(id, after_sequence, log.oldest_sequence));
  }
  return LogPlace(std::move(id), after_sequence, log);
}

// --- Watches ---

std::shared_ptr<JobWatch> JobHub::Watch(const std::string& job_id, Pace pace,
                                        std::function<void()> wake) {
  const MutexLock lock(&mutex_);
  std::shared_ptr<Topic>& topic = topics_[job_id];
  if (topic == nullptr) topic = std::make_shared<Topic>(job_id);
  std::shared_ptr<JobWatch> watch(new JobWatch(this, topic, pace, std::move(wake)));
  topic->watches.insert(watch.get());
  ++topic->count;
  return watch;
}

void JobHub::Leave(JobWatch* watch) {
  const MutexLock lock(&mutex_);
  Topic& topic = *watch->topic_;
  topic.watches.erase(watch);
  --topic.count;
  if (topic.watches.empty()) topics_.erase(topic.job_id);
}

size_t JobHub::CountWatches(const std::string& job_id) const {
  const MutexLock lock(&mutex_);
  const auto topic = topics_.find(job_id);
  return topic == topics_.end() ? 0 : topic->second->watches.size();
}

// --- News ---

// A clock that was set back keeps no watcher waiting.
bool JobHub::IsDue(const Topic& topic, Urgency urgency) const {
  if (topic.watches.size() <= kNoCrowd || urgency == Urgency::kAtOnce) return true;
  const absl::Duration since = clock_->Now() - topic.woken;
  return since < absl::ZeroDuration() ||
         since >= TurnInterval(topic.watches.size(), kWakesPerSecond);
}

// What other servers wrote may be told after what this one wrote later.
void JobHub::Tell(Topic& topic, int64_t newest, Urgency urgency) {
  topic.newest = std::max(topic.newest.load(), newest);
  const bool due = IsDue(topic, urgency);
  if (due) topic.woken = clock_->Now();
  for (JobWatch* const watch : topic.watches) {
    if (due || watch->pace_ == Pace::kEveryWrite) watch->Wake();
  }
}

void JobHub::OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) {
  const auto is_progress = [](const StoredEvent& event) { return IsProgress(event.kind); };
  const MutexLock lock(&mutex_);
  const auto found = topics_.find(job_id);
  if (found == topics_.end()) return;
  const bool progress = std::all_of(events.begin(), events.end(), is_progress);
  Tell(*found->second, events.back().sequence, progress ? Urgency::kProgress : Urgency::kAtOnce);
}

void JobHub::OnRemoteChange(const JobChange& job) {
  const MutexLock lock(&mutex_);
  const auto found = topics_.find(job.job_id);
  if (found == topics_.end() || job.newest_sequence <= found->second->newest) return;
  const bool runs = job.state == JobState::kRunning;
  Tell(*found->second, job.newest_sequence, runs ? Urgency::kProgress : Urgency::kAtOnce);
}

// --- Reading ---

absl::StatusOr<SharedBatch> JobHub::ReadShared(Topic& topic, int64_t after) const {
  const MutexLock lock(&topic.mutex);
  for (const SharedBatch& batch : topic.newest_batches) {
    if (batch->after == after) return batch;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(SharedBatch batch,
                             ReadThinned(jobs_, topic.job_id, after, MaxProgress(topic.count)));
  if (batch->last == after) return batch;  // the log may go on at any time: not to be kept
  topic.newest_batches.push_back(batch);
  if (topic.newest_batches.size() > kKeptBatches) topic.newest_batches.pop_front();
  return batch;
}

absl::StatusOr<SharedBatch> JobWatch::Read(int64_t after, Detail detail) const {
  if (detail == Detail::kEveryStep) return ReadLog(hub_->jobs_, topic_->job_id, after);
  return hub_->ReadShared(*topic_, after);
}

}  // namespace attnprune::api
