// The LAPACK routines in use, by the Fortran symbols that OpenBLAS carries.
#ifndef ATTNPRUNE_CORE_KERNELS_LAPACK_H_
#define ATTNPRUNE_CORE_KERNELS_LAPACK_H_

#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// They work in place on the lower triangle of an n x n row-major matrix, a.size() = n * n, and
// leave what is above the diagonal undefined. O(n^3 / 3). False when the maths has no answer, and
// then `a` is undefined.

// a = L with L L' = a. False unless a is positive definite.
bool CholeskyInPlace(Index n, absl::Span<double> a);

// a = the inverse of the lower triangular a. False if a diagonal entry is 0.
bool InvertLowerTriangleInPlace(Index n, absl::Span<double> a);

// The eigenvalues of the symmetric a, ascending; `a` is undefined afterwards. O(4/3 n^3). False
// where the iteration does not converge.
bool SymmetricEigenvalues(Index n, absl::Span<double> a, absl::Span<double> values);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_LAPACK_H_
