#include "server/api/live_feed.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/api/record_convert.h"
#include "server/api/status_details.h"

namespace attnprune::rpc {
namespace {

using Events = std::vector<std::shared_ptr<const v1::JobEvent>>;

absl::Status WithOldest(const absl::Status& status) {
  const absl::optional<int64_t> oldest = OldestSequence(status);
  if (!oldest.has_value()) return status;
  return WithReason(status, "HISTORY_COMPACTED", {{"oldest_sequence", absl::StrCat(*oldest)}});
}

absl::StatusOr<v1::JobEvent> Convert(JobStore* jobs, absl::string_view job_id,
                                     const StoredEvent& event) {
  ATTNPRUNE_ASSIGN_OR_RETURN(v1::JobEvent message, ToProto(event));
  if (event.kind != EventKind::kTerminal) return message;
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs->Get(job_id));
  ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_terminal(), ToProto(record));
  return message;
}

// Adds what follows batch->last.
absl::Status ReadInto(JobStore* jobs, absl::string_view job_id, EventBatch& batch) {
  const absl::StatusOr<std::vector<StoredEvent>> read =
      jobs->ReadEvents(job_id, batch.last, kReadLimit);
  if (!read.ok()) return WithOldest(read.status());
  for (const StoredEvent& event : *read) {
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::JobEvent message, Convert(jobs, job_id, event));
    batch.terminal = batch.terminal || event.kind == EventKind::kTerminal;
    batch.last = event.sequence;
    batch.events.push_back(std::make_shared<const v1::JobEvent>(std::move(message)));
  }
  batch.full = read->size() == kReadLimit;
  return absl::OkStatus();
}

// Sequences of the progress that stays when most of it is left out.
std::set<int64_t> NewestProgress(const Events& events) {
  std::map<std::string, int64_t> newest, newest_evaluated;
  for (const auto& event : events) {
    if (!event->has_progress()) continue;
    newest[event->progress().method()] = event->sequence();
    if (event->progress().has_calibration_error()) {
      newest_evaluated[event->progress().method()] = event->sequence();
    }
  }
  std::set<int64_t> kept;
  for (const auto& by_method : {newest, newest_evaluated}) {
    for (const auto& [method, sequence] : by_method) kept.insert(sequence);
  }
  return kept;
}

int64_t CountProgress(const Events& events) {
  return std::count_if(events.begin(), events.end(),
                       [](const auto& event) { return event->has_progress(); });
}

void ThinOut(Events& events) {
  const std::set<int64_t> kept = NewestProgress(events);
  std::erase_if(events, [&](const auto& event) {
    return event->has_progress() && kept.count(event->sequence()) == 0;
  });
}

}  // namespace

absl::StatusOr<SharedBatch> ReadLog(JobStore* jobs, absl::string_view job_id, int64_t after) {
  EventBatch batch{.after = after, .last = after};
  ATTNPRUNE_RETURN_IF_ERROR(ReadInto(jobs, job_id, batch));
  return std::make_shared<const EventBatch>(std::move(batch));
}

absl::Status CheckLog(JobStore* jobs, absl::string_view job_id, int64_t after) {
  return WithOldest(jobs->ReadEvents(job_id, after, 1).status());
}

int LiveFeed::MaxProgress(int64_t watchers) {
  constexpr int64_t kFew = 16, kOfAllWatchers = 256;
  return static_cast<int>(
      std::clamp<int64_t>(kOfAllWatchers / std::max<int64_t>(watchers, 1), 1, kFew));
}

// The lock is held while the store is read: those who wait want the same.
absl::StatusOr<SharedBatch> LiveFeed::ReadAfter(int64_t after) {
  const MutexLock lock(&mutex_);
  for (const SharedBatch& batch : newest_) {
    if (batch->after == after) return batch;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(SharedBatch batch, ReadCoalesced(after));
  if (batch->last == after) return batch;  // the log may go on at any time: not to be kept
  newest_.push_back(batch);
  if (newest_.size() > kKept) newest_.pop_front();
  return batch;
}

// Reads on if the first read was full of progress, most of which is left out.
absl::StatusOr<SharedBatch> LiveFeed::ReadCoalesced(int64_t after) const {
  const int max_progress = MaxProgress(weak_from_this().use_count());
  EventBatch batch{.after = after, .last = after};
  bool piled_up = false;
  do {
    ATTNPRUNE_RETURN_IF_ERROR(ReadInto(jobs_, id_, batch));
    piled_up = piled_up || CountProgress(batch.events) > max_progress;
    if (piled_up) ThinOut(batch.events);
  } while (batch.full && batch.events.size() < kReadLimit);
  return std::make_shared<const EventBatch>(std::move(batch));
}

std::shared_ptr<LiveFeed> LiveFeeds::Join(const std::string& job_id) {
  const MutexLock lock(&mutex_);
  std::erase_if(by_job_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<LiveFeed>& known = by_job_[job_id];
  std::shared_ptr<LiveFeed> feed = known.lock();
  if (feed == nullptr) known = feed = std::make_shared<LiveFeed>(jobs_, job_id);
  return feed;
}

}  // namespace attnprune::rpc
