#include "core/kernels/lapack.h"

#include <algorithm>

extern "C" {
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dtrtri_(const char* uplo, const char* diag, const int* n, double* a, const int* lda,
             int* info);
}

namespace attnprune {

// LAPACK stores by columns, so that the lower triangle of ours is the upper one of its own.

bool CholeskyInPlace(Index n, absl::Span<double> a) {
  const int size = static_cast<int>(n), stride = std::max(size, 1);
  int info = 0;
  dpotrf_("U", &size, a.data(), &stride, &info);
  return info == 0;
}

bool InvertLowerTriangleInPlace(Index n, absl::Span<double> a) {
  const int size = static_cast<int>(n), stride = std::max(size, 1);
  int info = 0;
  dtrtri_("U", "N", &size, a.data(), &stride, &info);
  return info == 0;
}

}  // namespace attnprune
