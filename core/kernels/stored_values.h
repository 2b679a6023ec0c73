// Pruned weights as a file will hold them.
#ifndef ATTNPRUNE_CORE_KERNELS_STORED_VALUES_H_
#define ATTNPRUNE_CORE_KERNELS_STORED_VALUES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// The bytes of `values` in that dtype, rounded to nearest even; `values` becomes what was rounded
// to. Of F64, kept weights that float32 cannot tell from those in `dense`, the bytes before
// pruning, keep their own 64 bits; other dtypes do not read it. OUT_OF_RANGE: a weight of `name` is
// too large for the dtype.
absl::StatusOr<std::vector<char>> RoundToStored(absl::string_view name, DType dtype,
                                                const BitMask& mask, absl::Span<const char> dense,
                                                absl::Span<float> values);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_STORED_VALUES_H_
