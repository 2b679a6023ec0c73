// The routines of OpenBLAS in use, at one thread each: single-precision products; in double
// precision a product with the own transpose, and LAPACK.
#ifndef ATTNPRUNE_CORE_KERNELS_BLAS_H_
#define ATTNPRUNE_CORE_KERNELS_BLAS_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Sets OpenBLAS to one thread a call, the first time. Everything in core that multiplies calls it;
// a program that starts threads calls it in main before them. Thread-safe.
// FAILED_PRECONDITION unless the pthread variant is the one loaded: the serial one returns wrong
// products when several threads call it, the openmp one collapses with several workers.
absl::Status InitializeBlas();

enum class Trans { kNo, kYes };

// c = alpha * op(a) op(b) + beta * c. With beta 0, c may hold anything. The shapes of op(a), op(b)
// and c must fit. c overlaps neither a nor b.
void Gemm(Trans trans_a, Trans trans_b, float alpha, MatrixView a, MatrixView b, float beta,
          MutableMatrixView c);

// c += a a' in the lower triangle of c, n x n; what is above the diagonal stays. a: n x k. Both
// row-major.
void AddProductWithTranspose(Index n, Index k, absl::Span<const double> a, absl::Span<double> c);

// LAPACK's routines work in place on the lower triangle of an n x n row-major matrix, a.size() = n
// * n, and leave what is above the diagonal undefined. O(n^3 / 3). False when the maths has no
// answer, and then `a` is undefined.

// a = L with L L' = a. False unless a is positive definite.
bool CholeskyInPlace(Index n, absl::Span<double> a);

// a = the inverse of the lower triangular a. False if a diagonal entry is 0.
bool InvertLowerTriangleInPlace(Index n, absl::Span<double> a);

// The eigenvalues of the symmetric a, ascending; `a` is undefined afterwards. O(4/3 n^3). False
// where the iteration does not converge.
bool SymmetricEigenvalues(Index n, absl::Span<double> a, absl::Span<double> values);

// The same with the eigenvectors, of length 1: row i of `a` becomes the one of values[i]. Takes
// room for 2 n^2 doubles more. O(9 n^3).
bool SymmetricEigenvectors(Index n, absl::Span<double> a, absl::Span<double> values);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_BLAS_H_
