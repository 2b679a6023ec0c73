// Notices that what a server works on was moved away under it.
#ifndef ATTNPRUNE_SERVER_UPKEEP_PLACE_WATCH_H_
#define ATTNPRUNE_SERVER_UPKEEP_PLACE_WATCH_H_

#include <functional>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace attnprune {

// A thread that calls `check` every interval of real time, the first time after one, and on_change
// with what it said whenever that turns from OK to an error or back; it begins with OK. From
// construction to destruction, which waits for the call under way. Thread-safe.
class PlaceWatch {
 public:
  PlaceWatch(absl::Duration interval, std::function<absl::Status()> check,
             std::function<void(const absl::Status&)> on_change);
  ~PlaceWatch();

 private:
  void Loop();

  const absl::Duration interval_;
  const std::function<absl::Status()> check_;
  const std::function<void(const absl::Status&)> on_change_;
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_UPKEEP_PLACE_WATCH_H_
