// How far float32 arithmetic may take the loss and its gradient from the float64 reference: the
// tolerances of the solver's tests.
//
// First-order running error analysis (Higham, Accuracy and Stability of Numerical Algorithms,
// chapter 3). With u = 2^-24 and gamma(k) = k u / (1 - k u), a sum of k products in any order, with
// or without fused multiply-add, is within gamma(k) |a|'|b| of a'b, plus what the errors of its
// terms bring: |a|'db + da'|b| + da'db. Each bound below follows one line of the formulas, entry by
// entry, from magnitudes of the actual data; none is tuned:
//   Y = X W' + b      gamma(d + 1) (|X||W|' + |b|); a clip adds nothing
//   norm of Y         what its derivative makes of dY, then u for one rounding
//   Q = R(norm)       4 u for one rotation (cos and sin rounded, a product, a sum), angles being
//                     exact
//   S = s Q K'        gamma(r) |Q||K|' with r = head_dim (d when fused), and 4 u for the scale; 4 u
//                     of alibi's bias and u for the sum; 2 u |S| + 8 u |S~| for a softcap
//   f = softmax(S)    relative e^t - 1 a row, t = 2 max dS + 4 u max|S| + u (max|S| + log n) +
//                     (n + 16) u: both exponents of numerator and denominator, S - max, a stored
//                     log-sum-exp, exp (up to 4 u twice), the sum of n, the division. And e^-87 for
//                     entries that underflow.
//   c = f~ - f        df~ + df + u |c|
//   t = sum_j c f~    gamma(n + 1) |c|'f~ and its terms' errors
//   p = f~ (c - t)    f~ (dc + dt + 4 u (|c| + |t|)) + df~ (|c| + |t| + dc + dt)
//                     times 1 - (S~ / c)^2, off by 2 |S~| dS~ / c^2 + 2 u, and u for the product
//   norm, back        what the derivative of its formula makes of dg, dx^ and dr, then u
//   gradients         two more products each, the outer over all N tokens of all batches
#ifndef ATTNPRUNE_TESTS_REFERENCE_FLOAT32_BOUNDS_H_
#define ATTNPRUNE_TESTS_REFERENCE_FLOAT32_BOUNDS_H_

#include <vector>

#include "tests/reference/attention_reference.h"

namespace attnprune::reference {

// What the float32 side was given.
enum class InputRounding {
  kExact,    // the very numbers that the reference has
  kNearest,  // float64 numbers rounded: u relative on X, W and b, 3 u on M o W
};

struct Float32Bounds {
  double attention_loss;
  std::vector<Dense> weight_gradients;  // in the pruned weights
  ErrorSums errors;                     // of Errors(): difference and dense, per head

  double dense_norm() const;  // of the sum of errors.dense
  // Of errors.relative(), given the reference's own sums.
  double relative(const ErrorSums& sums) const;
  double relative(const ErrorSums& sums, Index head) const;
};

Float32Bounds BoundFloat32Errors(const AttentionProblem& problem, const std::vector<Dense>& pruned,
                                 InputRounding rounding = InputRounding::kExact);

// The bound of Attention() for one head of one batch.
Dense BoundAttention(const AttentionProblem& problem, const std::vector<Dense>& weights,
                     const Dense& x, Index head, InputRounding rounding);

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_FLOAT32_BOUNDS_H_
