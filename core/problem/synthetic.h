// The synthetic data of the paper's Section 6.1.
#ifndef ATTNPRUNE_CORE_PROBLEM_SYNTHETIC_H_
#define ATTNPRUNE_CORE_PROBLEM_SYNTHETIC_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/problem/problem.h"

namespace attnprune {

// The defaults are the paper's, held-out batches apart: it has none.
struct SyntheticOptions {
  Index d = 64;                // width of the weights and of a token, at least 1
  Index n = 128;               // tokens of a batch, at least 1
  Index k = 16;                // calibration batches, at least 1
  Index rank = 4;              // of W_Q and of W_K, in [1, d]
  double x_std = 1.0;          // standard deviation of the tokens' entries, finite and above 0
  Index held_out_batches = 8;  // drawn like the calibration batches, at least 0
  uint64_t seed = 0;
};

// INVALID_ARGUMENT naming the option, its rule and the value; each set of batches and W itself may
// have 2^31 - 1 entries at most.
absl::Status Validate(const SyntheticOptions& options);

// A fused problem, causal, with its factors. W_Q and W_K are d x d standard Gaussian, each cut to
// its best approximation of the given rank; X_j is n x d Gaussian.
//
// The same options give the same bits (with one C++ library, CPU type and BLAS). Weights,
// calibration and held-out batches come from streams of their own: W depends on seed, d and rank
// only, and a batch does not depend on how many there are.
//
// O(d^3), two eigenvalue problems mostly: on one core 0.01 s for d = 64, 0.5 s for d = 512 and 25 s
// for d = 2048 (twice that on a busy machine).
absl::StatusOr<Problem> SyntheticProblem(const SyntheticOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_SYNTHETIC_H_
