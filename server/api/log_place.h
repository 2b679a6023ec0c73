// One watcher's place in a job's event log.
#ifndef ATTNPRUNE_SERVER_API_LOG_PLACE_H_
#define ATTNPRUNE_SERVER_API_LOG_PLACE_H_

#include <cstdint>
#include <string>

#include "server/api/event_log.h"

namespace attnprune::api {

// How much of a log's progress is read.
enum class Detail { kEveryStep, kThinned };

// Moves forward and never back. Holds no events: what a slow watcher has missed is in the store.
// Not thread-safe.
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

#endif  // ATTNPRUNE_SERVER_API_LOG_PLACE_H_
