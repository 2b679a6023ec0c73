// One watcher's place in a job's event log. No gRPC.
#ifndef ATTNPRUNE_SERVER_API_WATCH_CURSOR_H_
#define ATTNPRUNE_SERVER_API_WATCH_CURSOR_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/api/live_feed.h"
#include "server/queue/job_store.h"

namespace attnprune::rpc {

// Reads the log forward and never goes back. Holds nothing of it between calls, so that a watcher
// who does not read costs no memory: what he missed is in the store. One caller at a time.
class WatchCursor {
 public:
  // Events with a greater sequence than `after_sequence`, at least 0, of the job. The store and the
  // feeds must outlive the cursor. NOT_FOUND; INVALID_ARGUMENT: not a name, or no event has that
  // sequence yet.
  static absl::StatusOr<WatchCursor> Open(JobStore* jobs, LiveFeeds* feeds, absl::string_view name,
                                          int64_t after_sequence);

  // The next events, if any. Those that were there when the cursor was opened all come; later
  // progress is thinned out as LiveFeed says. Errors: of ReadLog.
  absl::StatusOr<SharedBatch> Next();

  // False: there is nothing after the last Next, if `newest` is the newest event that one has heard
  // of since before the first Next. Saves an empty read of the store.
  bool MayHaveMore(int64_t newest) const { return more_ || newest > after_; }

  // All that the log held when the cursor was opened has been handed out.
  bool replayed() const { return caught_up_ || after_ >= replay_until_; }

  // The terminal event has been handed out, by this cursor or a former one: nothing will follow.
  bool ended() const { return ended_; }
  const std::string& job_id() const { return id_; }
  int64_t replay_until() const { return replay_until_; }  // the newest event when it was opened

 private:
  WatchCursor(JobStore* jobs, LiveFeeds* feeds, std::string id, int64_t after);

  JobStore* jobs_;
  std::string id_;
  std::shared_ptr<LiveFeed> feed_;
  int64_t after_;
  int64_t replay_until_;    // last sequence when the cursor was opened
  bool caught_up_ = false;  // a read has found nothing
  bool more_ = true;
  bool ended_ = false;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_API_WATCH_CURSOR_H_
