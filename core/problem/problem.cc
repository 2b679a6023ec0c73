#include "core/problem/problem.h"

#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/problem/shape_check.h"

namespace attnprune {

absl::StatusOr<FusedWeights> FusedFromFactors(Matrix w_q, Matrix w_k) {
  ATTNPRUNE_RETURN_IF_ERROR(ValidateFactors({w_q.rows(), w_q.cols()}, {w_k.rows(), w_k.cols()}));
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
