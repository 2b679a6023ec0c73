// A job's event log as the API's messages, read from the store batch by batch, and a watcher's
// place in it.
#ifndef ATTNPRUNE_SERVER_API_EVENT_LOG_H_
#define ATTNPRUNE_SERVER_API_EVENT_LOG_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/prune_service.pb.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// How far a batch reaches.
struct BatchEnd {
  int64_t last = 0;       // its newest event; that it follows, if it is empty
  bool full = false;      // the log may go on
  bool terminal = false;  // its newest event is the job's last
};

// Consecutive events, in order. Shared by watchers and never changed.
struct EventBatch : BatchEnd {
  int64_t after = 0;  // the sequence that it follows
  std::vector<std::shared_ptr<const v1::JobEvent>> events;
};

using SharedBatch = std::shared_ptr<const EventBatch>;

inline constexpr int kReadLimit = 64;  // events of one read of the store

// All events after `after`, at most kReadLimit. OUT_OF_RANGE (ErrorInfo, "oldest_sequence"):
// compacted away; NOT_FOUND. Waits for the store; callable from any thread.
absl::StatusOr<SharedBatch> ReadLog(JobStore* jobs, absl::string_view job_id, int64_t after);

// What follows `after`. Above `max_progress` progress events only two of each method stay: the
// newest and the newest with an evaluation. May end before the newest event, but is empty only if
// there is none. Errors and threads: of ReadLog.
absl::StatusOr<SharedBatch> ReadThinned(JobStore* jobs, absl::string_view job_id, int64_t after,
                                        int max_progress);

// The error of a place that the log no longer reaches back to, with its ErrorInfo. Others as they
// are.
absl::Status WithOldestSequence(const absl::Status& status);

// How much of a log's progress is read.
enum class Detail { kEveryStep, kThinned };

// One watcher's place in a job's event log. Moves forward and never back. Holds no events: what a
// slow watcher has missed is in the store. Not thread-safe.
class LogPlace {
 public:
  // At `after`, in [0, log.newest_sequence].
  LogPlace(std::string job_id, int64_t after, const LogExtent& log);

  const std::string& job_id() const { return job_id_; }
  int64_t after() const { return after_; }

  // Of the next read: the events that the log held at first all come, later progress is thinned.
  Detail detail() const { return after_ < replay_until_ ? Detail::kEveryStep : Detail::kThinned; }

  // Takes the batch read at this place as handed out.
  void Advance(const BatchEnd& batch);

  // False: nothing follows, if `newest` is the newest event told of since before the first read.
  // Saves an empty read of the store.
  bool MayHaveMore(int64_t newest) const { return more_ || newest > after_; }

  // All that the log held at first has been handed out.
  bool replayed() const { return caught_up_ || after_ >= replay_until_; }
  // The terminal event has been handed out, here or to the watcher's previous stream.
  bool ended() const { return ended_; }

 private:
  std::string job_id_;
  int64_t after_;
  int64_t replay_until_;
  bool caught_up_ = false;  // a read has found nothing: from here on news tell of what follows
  bool more_ = true;
  bool ended_;
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_EVENT_LOG_H_
