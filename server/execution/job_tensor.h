// A tensor of a job, decoded from the API's reference to it; and its values, once they are read.
#ifndef ATTNPRUNE_SERVER_EXECUTION_JOB_TENSOR_H_
#define ATTNPRUNE_SERVER_EXECUTION_JOB_TENSOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "attnprune/v1/job.pb.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct JobTensor {
  std::string field;  // "job.problem.projections.w_q"
  // Of Problem: "w", "w_q", "w_k", "b_q", "b_k", "qk_norm.q_weight" and its like; empty for tokens.
  std::string matrix;
  std::string sha256;
  std::string name;  // the client's; may be empty
  DType dtype = DType::kF32;
  std::vector<Index> extents;  // row-major, each at least 1

  int64_t entries() const;
  int64_t bytes() const { return entries() * static_cast<int64_t>(SizeOf(dtype)); }
};

// Checks digest, dtype (F64, F32, F16 or BF16), shape and size. INVALID_ARGUMENT naming `field`
// with ".sha256", ".dtype" or ".shape".
absl::StatusOr<JobTensor> DecodeTensor(absl::string_view field, const v1::TensorRef& tensor,
                                       int64_t max_bytes);

v1::DType ToProto(DType dtype);

// "64 x 32"; long shapes are cut.
std::string ShapeText(absl::Span<const int64_t> extents);

// INVALID_ARGUMENT "<field> must be finite in float32, got nan at batch 2, row 0, column 5", all
// counted from 0, of the first value that is NaN or infinite. A matrix has no batch, a vector
// entries. values: of `tensor`, row by row, in float32, from entry `first` on. Pure.
absl::Status CheckFinite(const JobTensor& tensor, absl::Span<const float> values,
                         int64_t first = 0);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_JOB_TENSOR_H_
