// The rules of a tensor reference. Pure; callable from any thread.
#ifndef ATTNPRUNE_SERVER_API_TENSOR_CHECK_H_
#define ATTNPRUNE_SERVER_API_TENSOR_CHECK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/job.pb.h"

namespace attnprune::api {

// "64 x 32"; long shapes are cut.
std::string ShapeText(const v1::TensorRef& tensor);

// Checks digest, dtype (F64, F32, F16 or BF16), shape and size, and returns the bytes that shape
// and dtype come to. INVALID_ARGUMENT naming `field` with ".sha256", ".dtype" or ".shape".
absl::StatusOr<int64_t> CheckTensorRef(absl::string_view field, const v1::TensorRef& tensor,
                                       int64_t max_bytes);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_TENSOR_CHECK_H_
