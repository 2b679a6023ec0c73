// Large triangular factors on a pool's threads.
#ifndef ATTNPRUNE_CORE_KERNELS_TRIANGLE_H_
#define ATTNPRUNE_CORE_KERNELS_TRIANGLE_H_

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Rows of a matrix that LAPACK alone factors; larger ones are cut into blocks.
inline constexpr Index kLapackRows = 2048;

// CholeskyInPlace and InvertLowerTriangleInPlace (blas.h) of n x n row-major `a`. The bits do not
// depend on the pool's threads.
bool CholeskyInPlace(Index n, absl::Span<double> a, ThreadPool& pool);
bool InvertLowerTriangleInPlace(Index n, absl::Span<double> a, ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_TRIANGLE_H_
