// Sums in a fixed order.
#ifndef ATTNPRUNE_CORE_BASE_SUM_H_
#define ATTNPRUNE_CORE_BASE_SUM_H_

#include <numeric>

#include "absl/types/span.h"

namespace attnprune {

// From the first to the last, so that the bits do not depend on anything else.
inline double Sum(absl::Span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_BASE_SUM_H_
