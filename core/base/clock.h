// Time as a parameter, so that tests advance it and never sleep.
#ifndef ATTNPRUNE_CORE_BASE_CLOCK_H_
#define ATTNPRUNE_CORE_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace attnprune {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

// The system's time when it is first asked for, and what has passed since (CLOCK_BOOTTIME): steps
// of the system's clock, forward or back, change no duration and no deadline of this process. It
// follows the clock's slewing and goes on while the machine sleeps. Times that are told or stored
// come to the stepped clock at the next start. Thread-safe.
absl::Time SteadyNow();

class RealClock final : public Clock {
 public:
  absl::Time Now() const override { return SteadyNow(); }
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_BASE_CLOCK_H_
