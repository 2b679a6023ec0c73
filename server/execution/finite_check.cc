#include "server/execution/finite_check.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"

namespace attnprune {
namespace {

// Where the value of that flat index is.
std::string PlaceOf(const v1::TensorRef& tensor, int64_t index) {
  const int rank = tensor.shape_size();
  if (rank < 2) return absl::StrCat("entry ", index);
  const int64_t columns = tensor.shape(rank - 1), rows = tensor.shape(rank - 2);
  const std::string place =
      absl::StrCat("row ", index / columns % rows, ", column ", index % columns);
  return rank < 3 ? place : absl::StrCat("batch ", index / columns / rows, ", ", place);
}

}  // namespace

absl::Status CheckFinite(absl::string_view field, const v1::TensorRef& tensor,
                         absl::Span<const float> values, int64_t first) {
  const auto bad =
      std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (bad == values.end()) return absl::OkStatus();
  return FieldError(field, absl::StrCat("must be finite in float32, got ", *bad, " at ",
                                        PlaceOf(tensor, first + (bad - values.begin()))));
}

}  // namespace attnprune
