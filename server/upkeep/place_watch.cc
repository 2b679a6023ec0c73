#include "server/upkeep/place_watch.h"

#include <utility>

namespace attnprune {

PlaceWatch::PlaceWatch(absl::Duration interval, std::function<absl::Status()> check,
                       std::function<void(const absl::Status&)> on_change)
    : interval_(interval),
      check_(std::move(check)),
      on_change_(std::move(on_change)),
      thread_([this] { Loop(); }) {}

PlaceWatch::~PlaceWatch() {
  {
    const MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
}

void PlaceWatch::Loop() {
  bool was_ok = true;
  while (true) {
    {
      const MutexLock lock(&mutex_);
      if (wake_.WaitFor(&mutex_, interval_,
                        [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; })) {
        return;
      }
    }
    const absl::Status status = check_();
    if (status.ok() != was_ok) on_change_(status);
    was_ok = status.ok();
  }
}

}  // namespace attnprune
