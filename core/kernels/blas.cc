#include "core/kernels/blas.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

extern "C" {
#include <cblas.h>

void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dtrtri_(const char* uplo, const char* diag, const int* n, double* a, const int* lda,
             int* info);
void dsyev_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w,
            double* work, const int* lwork, int* info);
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w,
             double* work, const int* lwork, int* iwork, const int* liwork, int* info);
}

namespace attnprune {
namespace {

CBLAS_TRANSPOSE ToCblas(Trans trans) { return trans == Trans::kYes ? CblasTrans : CblasNoTrans; }

// BLAS wants a leading dimension of at least 1 and of at least the columns, also for no rows.
blasint LeadingDimension(MatrixView m) {
  return static_cast<blasint>(std::max<Index>({m.stride(), m.cols(), 1}));
}

absl::Status CheckAndSetThreads() {
  constexpr int kPthread = 1;
  if (const int parallel = openblas_get_parallel(); parallel != kPthread) {
    return absl::FailedPreconditionError(absl::StrCat(
        "OpenBLAS must be the pthread variant (package libopenblas0-pthread), got ",
        parallel == 0 ? "the serial one" : "the openmp one", ": ", openblas_get_config()));
  }
  openblas_set_num_threads(1);
  return absl::OkStatus();
}

}  // namespace

absl::Status InitializeBlas() {
  static const absl::Status& status = *new absl::Status(CheckAndSetThreads());
  return status;
}

void Gemm(Trans trans_a, Trans trans_b, float alpha, MatrixView a, MatrixView b, float beta,
          MutableMatrixView c) {
  const Index inner = trans_a == Trans::kYes ? a.rows() : a.cols();
  cblas_sgemm(CblasRowMajor, ToCblas(trans_a), ToCblas(trans_b), static_cast<blasint>(c.rows()),
              static_cast<blasint>(c.cols()), static_cast<blasint>(inner), alpha, a.data(),
              LeadingDimension(a), b.data(), LeadingDimension(b), beta, c.data(),
              LeadingDimension(c));
}

void AddProductWithTranspose(Index n, Index k, absl::Span<const double> a, absl::Span<double> c) {
  const auto size = static_cast<blasint>(n), inner = static_cast<blasint>(k);
  cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, size, inner, 1.0, a.data(),
              std::max<blasint>(inner, 1), 1.0, c.data(), std::max<blasint>(size, 1));
}

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

// Column-major, what LAPACK writes as columns are rows here.
bool SymmetricEigenvectors(Index n, absl::Span<double> a, absl::Span<double> values) {
  const int size = static_cast<int>(n), stride = std::max(size, 1), query = -1;
  double room_wanted = 0;
  int integers_wanted = 0, info = 0;
  dsyevd_("V", "U", &size, a.data(), &stride, values.data(), &room_wanted, &query, &integers_wanted,
          &query, &info);
  std::vector<double> room(static_cast<size_t>(room_wanted));
  std::vector<int> integers(static_cast<size_t>(integers_wanted));
  const int doubles = static_cast<int>(room.size());
  dsyevd_("V", "U", &size, a.data(), &stride, values.data(), room.data(), &doubles, integers.data(),
          &integers_wanted, &info);
  return info == 0;
}

}  // namespace attnprune
