// What ALPS needs to know of a linear map's inputs.
#ifndef ATTNPRUNE_CORE_METHODS_ALPS_INPUTS_H_
#define ATTNPRUNE_CORE_METHODS_ALPS_INPUTS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/kernels/gram.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// H = X'X + lambda I in the inputs' own scale: s = sqrt(diag H), H <- H / (s s'), so that its
// diagonal is 1. Where lambda is 0, an input that is always 0 has s = 0: its weights become 0.
// Shared by all maps of the same inputs.
struct AlpsInputs {
  Matrix h;                   // d x d
  Matrix vectors;             // d x d: row i is the eigenvector of values[i]
  std::vector<float> values;  // of H, ascending
  std::vector<float> scale;   // s
};

// lambda = damping * mean(diag X'X). FAILED_PRECONDITION naming the calibration where X'X is not
// finite or its eigenvectors are not found. float64 inside. O(d^3), on one thread.
absl::StatusOr<AlpsInputs> PrepareAlps(const GramMatrix& gram, double damping);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_ALPS_INPUTS_H_
