#include "core/problem/problem.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/kernels/finite.h"
#include "core/problem/problem_shape.h"
#include "core/problem/shape_check.h"

namespace attnprune {
namespace {

double LargestRowNorm(MatrixView m) {
  double largest = 0;
  for (Index i = 0; i < m.rows(); ++i) {
    double sum = 0;
    for (Index j = 0; j < m.cols(); ++j) {
      sum += static_cast<double>(m(i, j)) * static_cast<double>(m(i, j));
    }
    largest = std::max(largest, sum);
  }
  return std::sqrt(largest);
}

// Names the first entry of `m` that is NaN or infinite.
absl::Status CheckFinite(absl::string_view field, MatrixView m) {
  for (Index i = 0; i < m.rows(); ++i) {
    const Index bad = FirstNotFinite({m.row(i), static_cast<size_t>(m.cols())});
    if (bad == m.cols()) continue;
    return MustError(field, "be finite", absl::StrCat(m(i, bad), " at row ", i, ", column ", bad));
  }
  return absl::OkStatus();
}

absl::Status CheckFinite(absl::string_view field, const std::vector<float>& bias) {
  const auto bad = static_cast<size_t>(FirstNotFinite(bias));
  if (bad == bias.size()) return absl::OkStatus();
  return MustError(field, "be finite", absl::StrCat(bias[bad], " at entry ", bad));
}

// w = w_q w_k' up to the rounding of any order of summation: r eps sum |w_q| |w_k|.
absl::Status CheckProduct(const FusedWeights& weights) {
  const Index d = weights.w.rows(), rank = weights.w_q.cols();
  Matrix product(d, d);
  Gemm(Trans::kNo, Trans::kYes, 1.0f, weights.w_q, weights.w_k, 0.0f, product);
  const double slack = 2.0 * static_cast<double>(rank) *
                       static_cast<double>(std::numeric_limits<float>::epsilon()) *
                       LargestRowNorm(weights.w_q) * LargestRowNorm(weights.w_k);
  for (Index i = 0; i < d; ++i) {
    for (Index j = 0; j < d; ++j) {
      const double difference =
          static_cast<double>(weights.w(i, j)) - static_cast<double>(product(i, j));
      if (std::abs(difference) <= slack) continue;
      return MustError(
          "weights.w", "be the product of weights.w_q and weights.w_k",
          absl::StrCat(weights.w(i, j), " for ", product(i, j), " at row ", i, ", column ", j));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckValues(const FusedWeights& weights) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w", weights.w));
  if (!weights.has_factors()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w_q", weights.w_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w_k", weights.w_k));
  return CheckProduct(weights);
}

absl::Status CheckValues(const ProjectionWeights& weights) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w_q", weights.w_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w_k", weights.w_k));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.b_q", weights.b_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.b_k", weights.b_k));
  if (!weights.qk_norm.has_value()) return absl::OkStatus();
  const QkNorm& norm = *weights.qk_norm;
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("qk_norm.q_weight", norm.q_weight));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("qk_norm.k_weight", norm.k_weight));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("qk_norm.q_bias", norm.q_bias));
  return CheckFinite("qk_norm.k_bias", norm.k_bias);
}

absl::Status CheckValues(absl::string_view field, const Batches& batches) {
  for (Index j = 0; j < batches.count(); ++j) {
    const std::string name = absl::StrCat(field, "[", j, "]");
    ATTNPRUNE_RETURN_IF_ERROR(CheckFinite(name, batches.batch(j)));
    const absl::optional<std::string> equal = EqualRows(batches.batch(j));
    if (equal.has_value()) return MustError(name, "have rows that differ", *equal);
  }
  return absl::OkStatus();
}

// The lengths must be those of the stacked tokens.
absl::Status CheckLengths(absl::string_view field, const Batches& batches) {
  Index tokens = 0;
  for (Index j = 0; j < batches.count(); ++j) {
    const std::string name = absl::StrCat(field, "[", j, "]");
    if (batches.length(j) < 1) return MustError(name, "have at least one token", batches.length(j));
    if (batches.length(j) > batches.total_tokens() - tokens) {
      return MustError(name,
                       absl::StrCat("end within the ", batches.total_tokens(), " tokens given"),
                       absl::StrCat(batches.length(j), " tokens after ", tokens));
    }
    tokens += batches.length(j);
  }
  if (tokens == batches.total_tokens() || batches.count() == 0) return absl::OkStatus();
  return MustError(
      field, absl::StrCat("have batches for all its ", batches.total_tokens(), " tokens"), tokens);
}

}  // namespace

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

absl::Status Validate(const Problem& problem) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckLengths("calibration", problem.calibration));
  ATTNPRUNE_RETURN_IF_ERROR(CheckLengths("held_out", problem.held_out));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(ShapeOf(problem)));
  ATTNPRUNE_RETURN_IF_ERROR(problem.fused() ? CheckValues(problem.fused_weights())
                                            : CheckValues(problem.projections()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckValues("calibration", problem.calibration));
  return CheckValues("held_out", problem.held_out);
}

}  // namespace attnprune
