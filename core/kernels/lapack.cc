#include "core/kernels/lapack.h"

#include <algorithm>
#include <vector>

extern "C" {
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dtrtri_(const char* uplo, const char* diag, const int* n, double* a, const int* lda,
             int* info);
void dsyev_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w,
            double* work, const int* lwork, int* info);
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

bool SymmetricEigenvalues(Index n, absl::Span<double> a, absl::Span<double> values) {
  const int size = static_cast<int>(n), stride = std::max(size, 1), query = -1;
  double room_wanted = 0;
  int info = 0;
  dsyev_("N", "U", &size, a.data(), &stride, values.data(), &room_wanted, &query, &info);
  std::vector<double> room(static_cast<size_t>(room_wanted));
  const int doubles = static_cast<int>(room.size());
  dsyev_("N", "U", &size, a.data(), &stride, values.data(), room.data(), &doubles, &info);
  return info == 0;
}

}  // namespace attnprune
