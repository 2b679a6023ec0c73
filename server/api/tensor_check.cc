#include "server/api/tensor_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/blobs/upload_spec.h"

namespace attnprune::api {
namespace {

constexpr int kMaxShown = 8;  // entries of a shape in a message

absl::StatusOr<int64_t> CheckDType(absl::string_view field, v1::DType dtype) {
  const bool known = v1::DType_IsValid(dtype);
  if (known && dtype != v1::BITMASK) {
    const int64_t bytes = ElementBytes(v1::DType_Name(dtype));
    if (bytes > 0) return bytes;
  }
  return FieldError(
      absl::StrCat(field, ".dtype"),
      absl::StrCat("must be F64, F32, F16 or BF16, got ",
                   known ? v1::DType_Name(dtype) : absl::StrCat(static_cast<int>(dtype))));
}

// Counts down from the limit, so that no product can overflow.
absl::StatusOr<int64_t> CheckSize(absl::string_view field, const v1::TensorRef& tensor,
                                  int64_t element_bytes, int64_t max_bytes) {
  const std::string shape_field = absl::StrCat(field, ".shape");
  int64_t elements = 1;
  for (const int64_t extent : tensor.shape()) {
    if (extent < 1) {
      return FieldError(shape_field,
                        absl::StrCat("must have entries of at least 1, got ", ShapeText(tensor)));
    }
    if (extent > max_bytes / element_bytes / elements) {
      return FieldError(shape_field,
                        absl::StrCat("must come to at most ", max_bytes, " bytes, got ",
                                     ShapeText(tensor), " of ", v1::DType_Name(tensor.dtype())));
    }
    elements *= extent;
  }
  return elements * element_bytes;
}

}  // namespace

std::string ShapeText(const v1::TensorRef& tensor) {
  if (tensor.shape().empty()) return "no shape";
  const auto end = tensor.shape().begin() + std::min(tensor.shape_size(), kMaxShown);
  return absl::StrCat(absl::StrJoin(tensor.shape().begin(), end, " x "),
                      tensor.shape_size() > kMaxShown ? " x ..." : "");
}

absl::StatusOr<int64_t> CheckTensorRef(absl::string_view field, const v1::TensorRef& tensor,
                                       int64_t max_bytes) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckSha256(absl::StrCat(field, ".sha256"), tensor.sha256()));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t element_bytes, CheckDType(field, tensor.dtype()));
  return CheckSize(field, tensor, element_bytes, max_bytes);
}

}  // namespace attnprune::api
