#include "server/execution/finite_check.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/kernels/finite.h"

namespace attnprune {
namespace {

// Where the value of that flat index is.
std::string PlaceOf(const JobTensor& tensor, int64_t index) {
  const size_t rank = tensor.extents.size();
  if (rank < 2) return absl::StrCat("entry ", index);
  const int64_t columns = tensor.extents[rank - 1], rows = tensor.extents[rank - 2];
  const std::string place =
      absl::StrCat("row ", index / columns % rows, ", column ", index % columns);
  return rank < 3 ? place : absl::StrCat("batch ", index / columns / rows, ", ", place);
}

}  // namespace

absl::Status CheckFinite(const JobTensor& tensor, absl::Span<const float> values, int64_t first) {
  const Index bad = FirstNotFinite(values);
  if (bad == static_cast<Index>(values.size())) return absl::OkStatus();
  return FieldError(tensor.field, absl::StrCat("must be finite in float32, got ",
                                               values[static_cast<size_t>(bad)], " at ",
                                               PlaceOf(tensor, first + bad)));
}

}  // namespace attnprune
