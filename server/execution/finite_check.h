// The values of a job's tensors, once they have been read.
#ifndef ATTNPRUNE_SERVER_EXECUTION_FINITE_CHECK_H_
#define ATTNPRUNE_SERVER_EXECUTION_FINITE_CHECK_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/execution/job_tensor.h"

namespace attnprune {

// INVALID_ARGUMENT "<field> must be finite in float32, got nan at batch 2, row 0, column 5", all
// counted from 0, of the first value that is NaN or infinite. A matrix has no batch, a vector
// entries. values: of `tensor`, row by row, in float32, from entry `first` on. Pure.
absl::Status CheckFinite(const JobTensor& tensor, absl::Span<const float> values,
                         int64_t first = 0);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_FINITE_CHECK_H_
