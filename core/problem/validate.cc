// Every rule of a problem. A message is "<field> must <rule>, got <value>".
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/problem/attention_mask.h"
#include "core/problem/problem.h"
#include "core/problem/sparsity.h"

namespace attnprune {
namespace {

constexpr Index kBlasMax = std::numeric_limits<int>::max();  // OpenBLAS counts in 32 bits

template <typename Value>
absl::Status Refuse(absl::string_view field, absl::string_view rule, const Value& value) {
  return absl::InvalidArgumentError(absl::StrCat(field, " must ", rule, ", got ", value));
}

std::string Shape(MatrixView m) { return absl::StrCat(m.rows(), " x ", m.cols()); }

absl::Status CheckExtent(absl::string_view field, MatrixView m) {
  if (m.rows() > kBlasMax || m.cols() > kBlasMax) {
    return Refuse(field, absl::StrCat("have at most ", kBlasMax, " rows and columns"), Shape(m));
  }
  if (m.rows() < 1 || m.cols() < 1) {
    return Refuse(field, "have at least one row and one column", Shape(m));
  }
  return absl::OkStatus();
}

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
  const auto finite = [](float value) { return std::isfinite(value); };
  for (Index i = 0; i < m.rows(); ++i) {
    const float* row = m.row(i);
    const float* bad = std::find_if_not(row, row + m.cols(), finite);
    if (bad == row + m.cols()) continue;
    return Refuse(field, "be finite", absl::StrCat(*bad, " at row ", i, ", column ", bad - row));
  }
  return absl::OkStatus();
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
      return Refuse(
          "weights.w", "be the product of weights.w_q and weights.w_k",
          absl::StrCat(weights.w(i, j), " for ", product(i, j), " at row ", i, ", column ", j));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFused(const FusedWeights& weights) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent("weights.w", weights.w));
  const Index d = weights.w.rows();
  if (weights.w.cols() != d) return Refuse("weights.w", "be square", Shape(weights.w));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w", weights.w));
  if (weights.w_q.empty() && weights.w_k.empty()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent("weights.w_q", weights.w_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent("weights.w_k", weights.w_k));
  if (weights.w_q.rows() != d) {
    return Refuse("weights.w_q", absl::StrCat("have the ", d, " rows of weights.w"),
                  weights.w_q.rows());
  }
  if (!SameShape(weights.w_q, weights.w_k)) {
    return Refuse("weights.w_k",
                  absl::StrCat("have the shape of weights.w_q, ", Shape(weights.w_q)),
                  Shape(weights.w_k));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w_q", weights.w_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w_k", weights.w_k));
  return CheckProduct(weights);
}

absl::Status CheckHeads(const ProjectionWeights& weights) {
  if (weights.heads < 1) return Refuse("heads", "be at least 1", weights.heads);
  if (weights.w_q.rows() % weights.heads != 0) {
    return Refuse("heads", absl::StrCat("divide the ", weights.w_q.rows(), " rows of weights.w_q"),
                  weights.heads);
  }
  if (weights.kv_heads < 1) return Refuse("kv_heads", "be at least 1", weights.kv_heads);
  if (weights.heads % weights.kv_heads != 0) {
    return Refuse("kv_heads", absl::StrCat("divide heads (", weights.heads, ")"), weights.kv_heads);
  }
  // kv_heads <= heads <= w_q.rows() now, so the product cannot overflow.
  const Index expected = weights.kv_heads * weights.head_dim();
  if (weights.w_k.rows() != expected) {
    return Refuse("weights.w_k", absl::StrCat("have kv_heads * head_dim = ", expected, " rows"),
                  weights.w_k.rows());
  }
  return absl::OkStatus();
}

absl::Status CheckBias(absl::string_view field, absl::Span<const float> bias, Index outputs) {
  if (bias.empty()) return absl::OkStatus();
  if (static_cast<Index>(bias.size()) != outputs) {
    return Refuse(field, absl::StrCat("have ", outputs, " entries or none"), bias.size());
  }
  const auto bad =
      std::find_if_not(bias.begin(), bias.end(), [](float value) { return std::isfinite(value); });
  if (bad == bias.end()) return absl::OkStatus();
  return Refuse(field, "be finite", absl::StrCat(*bad, " at entry ", bad - bias.begin()));
}

absl::Status CheckRope(const ProjectionWeights& weights) {
  if (!weights.rope.has_value()) return absl::OkStatus();
  if (weights.head_dim() % 2 != 0) {
    return Refuse("rope", "go with an even head_dim", weights.head_dim());
  }
  const double theta = weights.rope->theta;
  if (!std::isfinite(theta) || theta <= 0) {
    return Refuse("rope.theta", "be finite and above 0", FormatNumber(theta));
  }
  const RopeLayout layout = weights.rope->layout;
  if (layout != RopeLayout::kRotateHalf && layout != RopeLayout::kInterleaved) {
    return Refuse("rope.layout", "be rotate_half or interleaved", static_cast<int>(layout));
  }
  return absl::OkStatus();
}

absl::Status CheckProjections(const ProjectionWeights& weights) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent("weights.w_q", weights.w_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent("weights.w_k", weights.w_k));
  ATTNPRUNE_RETURN_IF_ERROR(CheckHeads(weights));
  if (weights.w_k.cols() != weights.w_q.cols()) {
    return Refuse("weights.w_k",
                  absl::StrCat("have the ", weights.w_q.cols(), " columns of weights.w_q"),
                  weights.w_k.cols());
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w_q", weights.w_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFinite("weights.w_k", weights.w_k));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBias("weights.b_q", weights.b_q, weights.w_q.rows()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBias("weights.b_k", weights.b_k, weights.w_k.rows()));
  return CheckRope(weights);
}

// A scale is used as float32; its sign belongs to the weights, and 0 would hide them altogether.
absl::Status CheckScale(const absl::optional<double>& scale) {
  if (!scale.has_value()) return absl::OkStatus();
  const float used = static_cast<float>(*scale);
  if (std::isfinite(used) && used > 0) return absl::OkStatus();
  return Refuse("scale", "be above 0 and finite in float32", *scale);
}

absl::Status CheckBatches(absl::string_view field, const Batches& batches, Index d) {
  if (batches.features() != d) {
    return Refuse(field, absl::StrCat("have the weights' ", d, " input features"),
                  batches.features());
  }
  if (batches.total_tokens() > kBlasMax) {
    return Refuse(field, absl::StrCat("have at most ", kBlasMax, " tokens"),
                  batches.total_tokens());
  }
  Index tokens = 0;
  for (Index j = 0; j < batches.count(); ++j) {
    const std::string name = absl::StrCat(field, "[", j, "]");
    if (batches.length(j) < 1) return Refuse(name, "have at least one token", batches.length(j));
    if (batches.length(j) > batches.total_tokens() - tokens) {
      return Refuse(name, absl::StrCat("end within the ", batches.total_tokens(), " tokens given"),
                    absl::StrCat(batches.length(j), " tokens after ", tokens));
    }
    tokens += batches.length(j);
    ATTNPRUNE_RETURN_IF_ERROR(CheckFinite(name, batches.batch(j)));
  }
  if (tokens == batches.total_tokens()) return absl::OkStatus();
  return Refuse(field, absl::StrCat("have batches for all its ", batches.total_tokens(), " tokens"),
                tokens);
}

absl::Status CheckGroups(const Problem& problem) {
  if (!problem.sparsity.structured() || problem.features() % problem.sparsity.group == 0) {
    return absl::OkStatus();
  }
  return Refuse("sparsity",
                absl::StrCat("be N:M with M dividing the ", problem.features(), " input features"),
                ToString(problem.sparsity));
}

}  // namespace

absl::Status Validate(const Sparsity& sparsity) {
  if (!sparsity.structured()) {
    // Written so that NaN fails too.
    if (sparsity.fraction >= 0 && sparsity.fraction < 1) return absl::OkStatus();
    return Refuse("sparsity", "be in [0, 1)", ToString(sparsity));
  }
  if (sparsity.group >= 2 && sparsity.pruned >= 0 && sparsity.pruned < sparsity.group) {
    return absl::OkStatus();
  }
  return Refuse("sparsity", "be N:M with 0 <= N < M and M >= 2", ToString(sparsity));
}

absl::Status Validate(const AttentionMask& mask) {
  switch (mask.kind) {
    case AttentionMask::Kind::kCausal:
    case AttentionMask::Kind::kFull:
      if (mask.size == 0) return absl::OkStatus();
      return Refuse("attention", absl::StrCat("have no size when it is ", ToString(mask)),
                    mask.size);
    case AttentionMask::Kind::kBlock:
    case AttentionMask::Kind::kWindow:
      if (mask.size >= 1) return absl::OkStatus();
      return Refuse("attention", "have a size of at least 1 token", ToString(mask));
  }
  return Refuse("attention", "be causal, full, block or window", static_cast<int>(mask.kind));
}

absl::Status Validate(const Problem& problem) {
  ATTNPRUNE_RETURN_IF_ERROR(problem.fused() ? CheckFused(problem.fused_weights())
                                            : CheckProjections(problem.projections()));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(problem.attention));
  ATTNPRUNE_RETURN_IF_ERROR(CheckScale(problem.scale));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(problem.sparsity));
  ATTNPRUNE_RETURN_IF_ERROR(CheckGroups(problem));
  if (problem.calibration.count() < 1) {
    return Refuse("calibration", "have at least one batch", problem.calibration.count());
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckBatches("calibration", problem.calibration, problem.features()));
  if (problem.held_out.count() == 0) return absl::OkStatus();
  return CheckBatches("held_out", problem.held_out, problem.features());
}

}  // namespace attnprune
