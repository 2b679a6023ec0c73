// A clock with a point in the middle of a run where a test can do something.
#ifndef ATTNPRUNE_TESTS_SERVER_EXECUTION_HOOKED_CLOCK_H_
#define ATTNPRUNE_TESTS_SERVER_EXECUTION_HOOKED_CLOCK_H_

#include <functional>
#include <utility>

#include "absl/time/time.h"
#include "core/base/clock.h"

namespace attnprune::testing {

// The time of `base`, and a point in the middle of a run where a test can do something: the runner
// asks for the time on its own thread only, at every step and between its tasks.
class HookedClock final : public Clock {
 public:
  explicit HookedClock(const Clock* base) : base_(base) {}

  absl::Time Now() const override {
    const int look = ++looks_;
    if (look == hook_at_) {
      const std::function<void()> hook = hook_;  // a copy: it may set the next one
      hook();
    }
    return base_->Now();
  }
  // Calls hook at the look-th time from now, on the runner's thread.
  void SetHook(int look, std::function<void()> hook) {
    looks_ = 0;
    hook_at_ = look;
    hook_ = std::move(hook);
  }
  int looks() const { return looks_; }

 private:
  const Clock* const base_;
  mutable int looks_ = 0;
  int hook_at_ = 0;
  std::function<void()> hook_ = [] {};
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_EXECUTION_HOOKED_CLOCK_H_
