#include "server/api/watch_cursor.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/api/job_check.h"

namespace attnprune::rpc {

absl::StatusOr<WatchCursor> WatchCursor::Open(JobStore* jobs, LiveFeeds* feeds,
                                              absl::string_view name, int64_t after_sequence) {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string id, ParseJobName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs->Get(id));
  const int64_t last = record.next_sequence - 1;
  if (after_sequence < 0 || after_sequence > last) {
    return FieldError("after_sequence",
                      absl::StrCat("must be in [0, ", last, "], the last event of ", name, ", got ",
                                   after_sequence));
  }
  WatchCursor cursor(jobs, feeds, std::move(id), after_sequence);
  cursor.replay_until_ = last;
  cursor.ended_ = IsTerminal(record.state) && after_sequence == last;
  return cursor;
}

WatchCursor::WatchCursor(JobStore* jobs, LiveFeeds* feeds, std::string id, int64_t after)
    : jobs_(jobs),
      id_(std::move(id)),
      feed_(feeds->Join(id_)),
      after_(after),
      replay_until_(after) {}

absl::StatusOr<SharedBatch> WatchCursor::Next() {
  const bool replays = after_ < replay_until_;
  ATTNPRUNE_ASSIGN_OR_RETURN(SharedBatch batch,
                             replays ? ReadLog(jobs_, id_, after_) : feed_->ReadAfter(after_));
  // Nothing newer: from here on the news, heard of since before this read, tell of what follows.
  caught_up_ = caught_up_ || batch->last == after_;
  more_ = batch->full || !caught_up_;
  after_ = batch->last;
  ended_ = ended_ || batch->terminal;
  return batch;
}

}  // namespace attnprune::rpc
