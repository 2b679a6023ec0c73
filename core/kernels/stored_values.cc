#include "core/kernels/stored_values.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/kernels/finite.h"

namespace attnprune {
namespace {

void KeepDoubles(absl::Span<const char> dense, const BitMask& mask, absl::Span<const float> values,
                 absl::Span<char> bytes) {
  for (size_t i = 0; i < values.size(); ++i) {
    double before;
    const size_t offset = i * sizeof before;
    std::memcpy(&before, dense.data() + offset, sizeof before);
    if (!mask.kept(static_cast<Index>(i)) || static_cast<float>(before) != values[i]) continue;
    std::memcpy(bytes.data() + offset, &before, sizeof before);
  }
}

}  // namespace

absl::StatusOr<std::vector<char>> RoundToStored(absl::string_view name, DType dtype,
                                                const BitMask& mask, absl::Span<const char> dense,
                                                absl::Span<float> values) {
  std::vector<char> bytes(values.size() * SizeOf(dtype));
  ATTNPRUNE_RETURN_IF_ERROR(FromFloat32(values, dtype, absl::MakeSpan(bytes)));
  if (dtype == DType::kF64) KeepDoubles(dense, mask, values, absl::MakeSpan(bytes));
  ATTNPRUNE_RETURN_IF_ERROR(ToFloat32(dtype, bytes, values));
  if (AllFinite(values)) return bytes;
  return absl::OutOfRangeError(
      absl::StrCat("a pruned weight of ", name, " is too large for ", ToString(dtype)));
}

}  // namespace attnprune
