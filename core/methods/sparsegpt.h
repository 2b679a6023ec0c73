// SparseGPT (Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
// One-Shot"): removes weights by blocks of inputs and lets the inputs after them make up for it.
#ifndef ATTNPRUNE_CORE_METHODS_SPARSEGPT_H_
#define ATTNPRUNE_CORE_METHODS_SPARSEGPT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// What SparseGPT needs to know of the inputs; the same for every map of the same tokens.
struct SparseGptInputs {
  Matrix u;                // in x in, upper triangular: U'U = (H + percdamp mean(diag H) I)^-1
  std::vector<bool> dead;  // inputs that are always 0
  int damping_retries = 0;
};

// h: X'X. A dead input j (H_jj = 0) gets H_jj = 1 before the mean is taken. percdamp is raised
// where H is not positive definite: DampedInverseFactor's rule and errors.
absl::StatusOr<SparseGptInputs> PrepareSparseGpt(GramMatrix h, double percdamp, ThreadPool& pool);

struct SparseGptResult {
  BitMask mask;    // what was selected
  Matrix weights;  // exactly +0 where pruned; the others have moved
};

// w: out x in. The weights of dead inputs become 0. Then, a block of `blocksize` inputs at a time,
// those of the smallest W_ij^2 / U_jj^2 go, and the error (w - 0) / U_jj of each is pushed to the
// inputs after it. Unstructured: one selection over all rows of a block. N:M: N of every M
// consecutive inputs of a row, chosen when their turn comes.
//
// How many of a block of `size` entries go: min(int(size * rho) + 1, size), none if rho is 0. The
// published code removes everything up to sorted[int(size * rho)], which is the same where scores
// do not tie; where they do, this removes no more than that count, the lower flat index first.
// (All weights equal, the published rule would remove all of them.) With nothing to remove, no
// weight changes.
//
// output_weights: a factor of each output's scores, where the errors of some outputs count more
// than those of others; of a row's own N:M it decides nothing. Empty: all count alike, as
// published.
//
// INVALID_ARGUMENT if a group would straddle the end of a block. FAILED_PRECONDITION if a weight
// leaves the range of float32. The bits do not depend on the pool's threads. O(out in^2).
absl::StatusOr<SparseGptResult> SparseGpt(MatrixView w, const SparseGptInputs& inputs,
                                          const Sparsity& sparsity, Index blocksize,
                                          ThreadPool& pool,
                                          absl::Span<const double> output_weights = {});

// Entries that SparseGpt prunes of outputs x inputs.
Index SparseGptPrunedCount(Index outputs, Index inputs, const Sparsity& sparsity, Index blocksize);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SPARSEGPT_H_
