// One switch that ends whatever a client is waiting for: Ctrl-C in a program, a stop in a test.
#ifndef ATTNPRUNE_CLIENT_LIBRARY_INTERRUPT_H_
#define ATTNPRUNE_CLIENT_LIBRARY_INTERRUPT_H_

#include <cstdint>
#include <functional>
#include <map>

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace attnprune::client {

// Thread-safe. Not for signal handlers: wait for the signal on a thread and call Trigger there.
class Interrupt {
 public:
  // Calls now under way end with CANCELLED, and so do later ones. Cannot be taken back.
  void Trigger();
  bool triggered() const;

  // True if `duration` has gone by, false as soon as it is triggered.
  bool Sleep(absl::Duration duration);

  // Calls `cancel` at Trigger, or now if that has been, until the Hold is gone. `cancel` must be
  // quick and must not call back in here.
  class Hold {
   public:
    Hold(Interrupt* interrupt, std::function<void()> cancel);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    Interrupt* const interrupt_;
    int64_t id_ = 0;
  };

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  bool triggered_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t next_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<int64_t, std::function<void()>> holds_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_INTERRUPT_H_
