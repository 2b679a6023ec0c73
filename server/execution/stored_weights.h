// Pruned weights as they will be fetched.
#ifndef ATTNPRUNE_SERVER_EXECUTION_STORED_WEIGHTS_H_
#define ATTNPRUNE_SERVER_EXECUTION_STORED_WEIGHTS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/methods/method.h"
#include "server/blobs/blob_store.h"
#include "server/execution/job_spec.h"

namespace attnprune {

// Converts each matrix of `result` to the dtype of its input, one of the job's weights (F32 for the
// product of two factors), rounding to nearest even, and makes result's weights what was rounded
// to, so that what is judged is what is fetched. Pruned weights are exact zeros. A float64 input's
// weights that the method left as they were keep their own 64 bits. Returns the bytes, one vector a
// matrix. OUT_OF_RANGE: a weight is too large for the dtype. DATA_LOSS, NOT_FOUND: of the store.
absl::StatusOr<std::vector<std::vector<char>>> RoundToStored(absl::Span<const JobTensor> inputs,
                                                             const BlobStore& tensors,
                                                             PruneResult* result);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_STORED_WEIGHTS_H_
