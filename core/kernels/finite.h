// Values that are neither NaN nor infinite.
#ifndef ATTNPRUNE_CORE_KERNELS_FINITE_H_
#define ATTNPRUNE_CORE_KERNELS_FINITE_H_

#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Index of the first value that is NaN or infinite; values.size() if there is none. Pure.
Index FirstNotFinite(absl::Span<const float> values);

inline bool AllFinite(absl::Span<const float> values) {
  return FirstNotFinite(values) == static_cast<Index>(values.size());
}

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_FINITE_H_
