// The factor of an inverse Hessian that SparseGPT works with.
#ifndef ATTNPRUNE_CORE_KERNELS_CHOLESKY_H_
#define ATTNPRUNE_CORE_KERNELS_CHOLESKY_H_

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// U, upper triangular with a positive diagonal and zeros below it, such that
// U'U = (h + damping I)^-1. Taken from the Cholesky factor of h with its rows and columns in
// reverse order, which spares forming the inverse and factoring it again; float64 inside.
// nullopt unless h + damping I is positive definite beyond rounding: every pivot must exceed
// float32's epsilon times its diagonal entry, since h was summed in float32. The bits do not depend
// on the pool's threads. O(d^3).
absl::optional<Matrix> InverseFactor(const GramMatrix& h, double damping, ThreadPool& pool);

// How often DampedInverseFactor raises the damping before it gives up.
inline constexpr int kMaxDampingRetries = 8;

struct DampedFactor {
  Matrix u;
  double percdamp = 0;  // in use in the end
  int retries = 0;      // how often it was raised
};

// InverseFactor with damping percdamp * mean(diag h). Where that is not positive definite, percdamp
// is raised tenfold, from 0 to 1e-6, each time starting from the undamped h.
// FAILED_PRECONDITION naming percdamp after kMaxDampingRetries, or at once if h is not finite.
absl::StatusOr<DampedFactor> DampedInverseFactor(const GramMatrix& h, double percdamp,
                                                 ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_CHOLESKY_H_
