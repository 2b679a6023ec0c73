#include "core/problem/problem.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"

namespace attnprune {

absl::StatusOr<FusedWeights> FusedFromFactors(Matrix w_q, Matrix w_k) {
  if (w_q.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("weights.w_q must be d x r, not empty, got ", w_q.rows(), " x ", w_q.cols()));
  }
  if (!SameShape(w_q, w_k)) {
    return absl::InvalidArgumentError(
        absl::StrCat("weights.w_k must have the shape of weights.w_q, ", w_q.rows(), " x ",
                     w_q.cols(), ", got ", w_k.rows(), " x ", w_k.cols()));
  }
  if (w_q.rows() > std::numeric_limits<int>::max()) {  // OpenBLAS counts in 32 bits
    return absl::InvalidArgumentError(absl::StrCat("weights.w_q must have at most ",
                                                   std::numeric_limits<int>::max(), " rows, got ",
                                                   w_q.rows()));
  }
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  Matrix w(w_q.rows(), w_q.rows());
  Gemm(Trans::kNo, Trans::kYes, 1.0f, w_q, w_k, 0.0f, w);
  return FusedWeights{std::move(w), std::move(w_q), std::move(w_k)};
}

Index Problem::features() const {
  return fused() ? fused_weights().w.rows() : projections().w_q.cols();
}

Index Problem::heads() const { return fused() ? 1 : projections().heads; }

float Problem::effective_scale() const {
  if (scale.has_value()) return static_cast<float>(*scale);
  if (fused()) return 1.0f;
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(projections().head_dim())));
}

std::vector<NamedWeight> AttentionWeights(const Problem& problem) {
  if (problem.fused()) return {{"w", problem.fused_weights().w, /*inputs_are_rows=*/true}};
  const ProjectionWeights& weights = problem.projections();
  return {{"w_q", weights.w_q, /*inputs_are_rows=*/false},
          {"w_k", weights.w_k, /*inputs_are_rows=*/false}};
}

}  // namespace attnprune
