// Time as a parameter, so that tests advance it and never sleep.
#ifndef ATTNPRUNE_CORE_BASE_CLOCK_H_
#define ATTNPRUNE_CORE_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace attnprune {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class RealClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_BASE_CLOCK_H_
