#include "server/api/event_log.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/api/record_convert.h"
#include "server/api/status_details.h"

namespace attnprune::api {
namespace {

using Events = std::vector<std::shared_ptr<const v1::JobEvent>>;

absl::StatusOr<v1::JobEvent> Convert(JobStore* jobs, absl::string_view job_id,
                                     const StoredEvent& event) {
  ATTNPRUNE_ASSIGN_OR_RETURN(v1::JobEvent message, ToProto(event, KindOf(job_id)));
  if (event.kind != EventKind::kTerminal) return message;
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs->Get(job_id));
  if (KindOf(job_id) == JobKind::kRun) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_run_terminal(), RunToProto(record));
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_terminal(), ToProto(record));
  }
  return message;
}

// Adds what follows batch.last.
absl::Status ReadInto(JobStore* jobs, absl::string_view job_id, EventBatch& batch) {
  const absl::StatusOr<std::vector<StoredEvent>> read =
      jobs->ReadEvents(job_id, batch.last, kReadLimit);
  if (!read.ok()) return WithOldestSequence(read.status());
  for (const StoredEvent& event : *read) {
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::JobEvent message, Convert(jobs, job_id, event));
    batch.terminal = batch.terminal || event.kind == EventKind::kTerminal;
    batch.last = event.sequence;
    batch.events.push_back(std::make_shared<const v1::JobEvent>(std::move(message)));
  }
  batch.full = read->size() == kReadLimit;
  return absl::OkStatus();
}

// Of methods or of a run, not of phases.
bool IsProgressEvent(const v1::JobEvent& event) {
  return event.has_progress() || event.has_run_progress();
}

// Sequences of the progress that stays when the rest is left out.
std::set<int64_t> NewestProgress(const Events& events) {
  std::map<std::string, int64_t> newest, newest_evaluated;
  for (const auto& event : events) {
    if (event->has_run_progress()) newest[""] = event->sequence();
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
                       [](const auto& event) { return IsProgressEvent(*event); });
}

void ThinOut(Events& events) {
  const std::set<int64_t> kept = NewestProgress(events);
  std::erase_if(events, [&](const auto& event) {
    return IsProgressEvent(*event) && kept.count(event->sequence()) == 0;
  });
}

}  // namespace

absl::Status WithOldestSequence(const absl::Status& status) {
  const absl::optional<int64_t> oldest = OldestSequence(status);
  if (!oldest.has_value()) return status;
  return WithReason(status, "HISTORY_COMPACTED", {{"oldest_sequence", absl::StrCat(*oldest)}});
}

absl::StatusOr<SharedBatch> ReadLog(JobStore* jobs, absl::string_view job_id, int64_t after) {
  EventBatch batch{{.last = after}, after, {}};
  ATTNPRUNE_RETURN_IF_ERROR(ReadInto(jobs, job_id, batch));
  return std::make_shared<const EventBatch>(std::move(batch));
}

// Reads on if the first read was full of progress, most of which is left out.
absl::StatusOr<SharedBatch> ReadThinned(JobStore* jobs, absl::string_view job_id, int64_t after,
                                        int max_progress) {
  EventBatch batch{{.last = after}, after, {}};
  bool piled_up = false;
  do {
    ATTNPRUNE_RETURN_IF_ERROR(ReadInto(jobs, job_id, batch));
    piled_up = piled_up || CountProgress(batch.events) > max_progress;
    if (piled_up) ThinOut(batch.events);
  } while (batch.full && batch.events.size() < kReadLimit);
  return std::make_shared<const EventBatch>(std::move(batch));
}

LogPlace::LogPlace(std::string job_id, int64_t after, const LogExtent& log)
    : job_id_(std::move(job_id)),
      after_(after),
      replay_until_(log.newest_sequence),
      ended_(IsTerminal(log.state) && after == log.newest_sequence) {}

void LogPlace::Advance(const BatchEnd& batch) {
  caught_up_ = caught_up_ || batch.last == after_;
  more_ = batch.full || !caught_up_;
  after_ = batch.last;
  ended_ = ended_ || batch.terminal;
}

}  // namespace attnprune::api
