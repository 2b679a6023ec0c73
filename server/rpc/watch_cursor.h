// One watcher's place in a job's event log. No gRPC.
#ifndef ATTNPRUNE_SERVER_RPC_WATCH_CURSOR_H_
#define ATTNPRUNE_SERVER_RPC_WATCH_CURSOR_H_

#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/prune_service.pb.h"
#include "server/jobs/job_store.h"

namespace attnprune::rpc {

// Reads the log forward and never goes back. Holds nothing of it between calls, so that a watcher
// who does not read costs no memory: what he missed is in the store. One caller at a time.
class WatchCursor {
 public:
  // Events with a greater sequence than `after_sequence`, at least 0, of the job. The store must
  // outlive the cursor. NOT_FOUND; INVALID_ARGUMENT: not a name, or no event has that sequence yet.
  static absl::StatusOr<WatchCursor> Open(JobStore* jobs, absl::string_view name,
                                          int64_t after_sequence);

  // The next events, at most some 64; none: there are no newer ones. Events that were there when
  // the cursor was opened all come; of later progress, if more than kMaxProgress of it has piled up
  // since the last call, only the newest and the newest with an evaluation, method by method.
  // OUT_OF_RANGE (ErrorInfo, "oldest_sequence"): compacted away.
  absl::StatusOr<std::deque<v1::JobEvent>> Next();

  // The terminal event has been handed out, by this cursor or a former one: nothing will follow.
  bool ended() const { return ended_; }
  const std::string& job_id() const { return id_; }

  static constexpr int kMaxProgress = 16;

 private:
  WatchCursor(JobStore* jobs, std::string id, int64_t after);

  absl::StatusOr<v1::JobEvent> Convert(const StoredEvent& event);

  JobStore* jobs_;
  std::string id_;
  int64_t after_;
  int64_t replay_until_;  // last sequence when the cursor was opened
  bool ended_ = false;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_RPC_WATCH_CURSOR_H_
