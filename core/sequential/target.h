// What a linear map is to give where its inputs are no longer those of the dense model.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_TARGET_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_TARGET_H_

#include "absl/status/statusor.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/methods/linear_inputs.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Damping of the fit, as a fraction of the mean of X'X's diagonal: that of ALPS.
inline constexpr double kTargetDamping = 0.01;

// With inputs X, those in the dense model Z and the target Y = ((1 - share) X + share Z) W': the
// weights V that minimise ||Y - X V'||^2 + lambda ||W - V||^2, which are
//
//   V = W + share W (X'Z - X'X)' (X'X + lambda I)^-1
//
// For any D the sum is (D - V)(X'X + lambda I)(D - V)' and a constant, so that a method that prunes
// V on X prunes W to that target. inputs: of X. cross: X'Z. share in [0, 1].
// FAILED_PRECONDITION where X'X is not finite. O(d^3).
absl::StatusOr<Matrix> TargetWeights(MatrixView w, LinearInputs& inputs, const GramMatrix& cross,
                                     double share, ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_TARGET_H_
