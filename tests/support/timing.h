// What every benchmark does with a clock.
#ifndef ATTNPRUNE_TESTS_SUPPORT_TIMING_H_
#define ATTNPRUNE_TESTS_SUPPORT_TIMING_H_

#include <algorithm>
#include <chrono>
#include <vector>

namespace attnprune::testing {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The upper one of the two in the middle; `values` is not empty.
inline double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SUPPORT_TIMING_H_
