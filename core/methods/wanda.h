// Wanda (Sun et al., "A Simple and Effective Pruning Approach for Large Language Models"): a weight
// counts as much as its magnitude times the norm of its input.
#ifndef ATTNPRUNE_CORE_METHODS_WANDA_H_
#define ATTNPRUNE_CORE_METHODS_WANDA_H_

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// In both, norms[j] = ||X_j||_2 >= 0 of input j, and of equal scores the lower index goes first.
// No bit depends on the pool's threads.
// Scores are taken relative to the largest norm, which changes no order and cannot overflow.

// w: out x in. Score |W_ij| norms[j]. Unstructured: int(in * rho) go in each output row. N:M: N of
// every M consecutive inputs of a row; in divisible by M.
BitMask WandaMask(MatrixView w, absl::Span<const double> norms, const Sparsity& sparsity,
                  ThreadPool& pool);

// For the fused weight, which meets the tokens on both sides: x_a W x_b'. w: d x d, in x out. Score
// |W_ij| norms[i] norms[j]. Unstructured: both sides carrying a norm, no output stands apart, so
// that the whole matrix is one comparison group and exactly floor(rho * size) go. N:M: N of every M
// consecutive inputs, which run down a column.
BitMask TwoSidedWandaMask(MatrixView w, absl::Span<const double> norms, const Sparsity& sparsity,
                          ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_WANDA_H_
