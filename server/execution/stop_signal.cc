#include "server/execution/stop_signal.h"

namespace attnprune {

void StopSignal::Request(StopReason reason) {
  {
    MutexLock lock(&mutex_);
    if (!requested() || reason == StopReason::kLapsed) reason_ = reason;
    if (reason == StopReason::kDraining || reason == StopReason::kLapsed) leaving_ = true;
  }
  changed_.NotifyAll();
}

bool StopSignal::WaitUnlessRequested(absl::Duration duration) {
  MutexLock lock(&mutex_);
  return changed_.WaitFor(&mutex_, duration, [this] { return requested(); });
}

bool StopSignal::WaitUnlessLeaving(absl::Duration duration) {
  MutexLock lock(&mutex_);
  return changed_.WaitFor(&mutex_, duration, [this] { return leaving(); });
}

}  // namespace attnprune
