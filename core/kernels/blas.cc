#include "core/kernels/blas.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

extern "C" {
#include <cblas.h>
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

}  // namespace attnprune
