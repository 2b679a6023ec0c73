// Single-precision matrix products by OpenBLAS, at one thread each.
#ifndef ATTNPRUNE_CORE_KERNELS_BLAS_H_
#define ATTNPRUNE_CORE_KERNELS_BLAS_H_

#include "absl/status/status.h"
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

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_BLAS_H_
