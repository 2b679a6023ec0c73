#include "server/rpc/watch_cursor.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/rpc/job_check.h"
#include "server/rpc/record_convert.h"
#include "server/rpc/status.h"

namespace attnprune::rpc {
namespace {

constexpr int kReadLimit = 64;

absl::Status WithOldest(const absl::Status& status) {
  const absl::optional<int64_t> oldest = OldestSequence(status);
  if (!oldest.has_value()) return status;
  return WithReason(status, "HISTORY_COMPACTED", {{"oldest_sequence", absl::StrCat(*oldest)}});
}

// Sequences of the progress that a watcher who has fallen behind is to get.
std::set<int64_t> NewestProgress(const std::deque<v1::JobEvent>& events) {
  std::map<std::string, int64_t> newest, newest_evaluated;
  for (const v1::JobEvent& event : events) {
    if (!event.has_progress()) continue;
    newest[event.progress().method()] = event.sequence();
    if (event.progress().has_calibration_error()) {
      newest_evaluated[event.progress().method()] = event.sequence();
    }
  }
  std::set<int64_t> kept;
  for (const auto& by_method : {newest, newest_evaluated}) {
    for (const auto& [method, sequence] : by_method) kept.insert(sequence);
  }
  return kept;
}

}  // namespace

absl::StatusOr<WatchCursor> WatchCursor::Open(JobStore* jobs, absl::string_view name,
                                              int64_t after_sequence) {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string id, ParseJobName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs->Get(id));
  const int64_t last = record.next_sequence - 1;
  if (after_sequence < 0 || after_sequence > last) {
    return FieldError("after_sequence",
                      absl::StrCat("must be in [0, ", last, "], the last event of ", name, ", got ",
                                   after_sequence));
  }
  WatchCursor cursor(jobs, std::move(id), after_sequence);
  cursor.replay_until_ = last;
  cursor.ended_ = IsTerminal(record.state) && after_sequence == last;
  return cursor;
}

WatchCursor::WatchCursor(JobStore* jobs, std::string id, int64_t after)
    : jobs_(jobs), id_(std::move(id)), after_(after), replay_until_(after) {}

absl::StatusOr<v1::JobEvent> WatchCursor::Convert(const StoredEvent& event) {
  ATTNPRUNE_ASSIGN_OR_RETURN(v1::JobEvent message, ToProto(event));
  if (event.kind != EventKind::kTerminal) return message;
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs_->Get(id_));
  ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_terminal(), ToProto(record));
  return message;
}

absl::StatusOr<std::deque<v1::JobEvent>> WatchCursor::Next() {
  std::deque<v1::JobEvent> events;
  int live_progress = 0;
  bool more = !ended_;
  // A second read only if the first was full of live progress, most of which is dropped.
  while (more && events.size() < kReadLimit) {
    absl::StatusOr<std::vector<StoredEvent>> read = jobs_->ReadEvents(id_, after_, kReadLimit);
    if (!read.ok()) return WithOldest(read.status());
    more = read->size() == kReadLimit;
    for (const StoredEvent& event : *read) {
      ATTNPRUNE_ASSIGN_OR_RETURN(v1::JobEvent message, Convert(event));
      if (event.kind == EventKind::kProgress && event.sequence > replay_until_) ++live_progress;
      if (event.kind == EventKind::kTerminal) ended_ = true;
      after_ = event.sequence;
      events.push_back(std::move(message));
    }
    if (live_progress <= kMaxProgress) continue;
    const std::set<int64_t> kept = NewestProgress(events);
    const auto dropped = [&](const v1::JobEvent& event) {
      return event.has_progress() && event.sequence() > replay_until_ &&
             kept.count(event.sequence()) == 0;
    };
    events.erase(std::remove_if(events.begin(), events.end(), dropped), events.end());
  }
  return events;
}

}  // namespace attnprune::rpc
