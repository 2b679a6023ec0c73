#include "server/execution/job_tensor.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/kernels/finite.h"
#include "server/blobs/upload_spec.h"

namespace attnprune {
namespace {

constexpr size_t kMaxShown = 8;  // entries of a shape in a message

// The API's names are those of the safetensors format.
absl::StatusOr<DType> DecodeDType(absl::string_view field, v1::DType dtype) {
  const absl::optional<DType> decoded = ParseDType(v1::DType_Name(dtype));
  if (decoded.has_value() && IsConvertible(*decoded)) return *decoded;
  return FieldError(absl::StrCat(field, ".dtype"),
                    absl::StrCat("must be F64, F32, F16 or BF16, got ",
                                 v1::DType_IsValid(dtype) ? v1::DType_Name(dtype)
                                                          : absl::StrCat(static_cast<int>(dtype))));
}

// Counts down from the limit, so that no product can overflow.
absl::Status CheckSize(const JobTensor& tensor, int64_t max_bytes) {
  const std::string field = absl::StrCat(tensor.field, ".shape");
  int64_t left = max_bytes / static_cast<int64_t>(SizeOf(tensor.dtype));
  for (const Index extent : tensor.extents) {
    if (extent < 1) {
      return MustError(field, "have entries of at least 1", ShapeText(tensor.extents));
    }
    left /= extent;
  }
  if (left > 0) return absl::OkStatus();
  return FieldError(field, absl::StrCat("must come to at most ", max_bytes, " bytes, got ",
                                        ShapeText(tensor.extents), " of ", ToString(tensor.dtype)));
}

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

int64_t JobTensor::entries() const {
  int64_t count = 1;
  for (const Index extent : extents) count *= extent;
  return count;
}

absl::StatusOr<JobTensor> DecodeTensor(absl::string_view field, const v1::TensorRef& tensor,
                                       int64_t max_bytes) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckSha256(absl::StrCat(field, ".sha256"), tensor.sha256()));
  JobTensor decoded{.field = std::string(field),
                    .matrix = {},
                    .sha256 = tensor.sha256(),
                    .name = tensor.name(),
                    .extents = {tensor.shape().begin(), tensor.shape().end()}};
  ATTNPRUNE_ASSIGN_OR_RETURN(decoded.dtype, DecodeDType(field, tensor.dtype()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSize(decoded, max_bytes));
  return decoded;
}

v1::DType ToProto(DType dtype) {
  v1::DType message = v1::DTYPE_UNSPECIFIED;
  v1::DType_Parse(std::string(ToString(dtype)), &message);
  return message;
}

std::string ShapeText(absl::Span<const int64_t> extents) {
  if (extents.empty()) return "no shape";
  return absl::StrCat(absl::StrJoin(extents.subspan(0, kMaxShown), " x "),
                      extents.size() > kMaxShown ? " x ..." : "");
}

absl::Status CheckFinite(const JobTensor& tensor, absl::Span<const float> values, int64_t first) {
  const Index bad = FirstNotFinite(values);
  if (bad == static_cast<Index>(values.size())) return absl::OkStatus();
  return FieldError(tensor.field, absl::StrCat("must be finite in float32, got ",
                                               values[static_cast<size_t>(bad)], " at ",
                                               PlaceOf(tensor, first + bad)));
}

}  // namespace attnprune
