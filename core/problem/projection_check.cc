#include "core/problem/projection_check.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

Index HeadDim(const ProjectionShape& shape) { return shape.w_q.rows / shape.heads; }

absl::Status CheckHeads(const ProjectionShape& shape, const ProblemFields& fields) {
  if (shape.heads < 1) return MustError(fields.heads, "be at least 1", shape.heads);
  if (shape.w_q.rows % shape.heads != 0) {
    return MustError(fields.heads,
                     absl::StrCat("divide the ", shape.w_q.rows, " rows of ", fields.w_q.name),
                     shape.heads);
  }
  if (shape.kv_heads < 1) {
    return MustError(fields.kv_heads, absl::StrCat("be at least 1", fields.or_default_kv_heads),
                     shape.kv_heads);
  }
  if (shape.heads % shape.kv_heads != 0) {
    return MustError(fields.kv_heads, absl::StrCat("divide heads (", shape.heads, ")"),
                     shape.kv_heads);
  }
  return absl::OkStatus();
}

// The shape of w_k must follow from that of w_q.
absl::Status CheckKeys(const ProjectionShape& shape, const ProblemFields& fields) {
  // kv_heads <= heads <= w_q.rows, so the product cannot overflow.
  const MatrixShape expected = {shape.kv_heads * HeadDim(shape), shape.w_q.cols};
  if (shape.w_k == expected) return absl::OkStatus();
  return MustError(
      fields.w_k.field,
      absl::StrCat("be kv_heads * head_dim x d = ", expected.rows, " x ", expected.cols),
      absl::StrCat(shape.w_k.rows, " x ", shape.w_k.cols));
}

absl::Status CheckBias(absl::string_view field, Index entries, Index outputs) {
  if (entries == 0 || entries == outputs) return absl::OkStatus();
  return MustError(field, absl::StrCat("come to one entry a row of its weight, ", outputs),
                   entries);
}

// One of a rotary embedding's numbers, its name behind that of the message it is in.
struct RopeNumber {
  const char* name;
  double value;
};

absl::Status CheckNumber(absl::string_view message, const RopeNumber& number, bool meets_rule,
                         absl::string_view rule) {
  if (std::isfinite(number.value) && meets_rule) return absl::OkStatus();
  return MustError(absl::StrCat(message, ".", number.name), absl::StrCat("be finite and ", rule),
                   FormatNumber(number.value));
}

absl::Status CheckAbove0(absl::string_view message, const RopeNumber& number,
                         absl::string_view or_default = "") {
  return CheckNumber(message, number, number.value > 0, absl::StrCat("above 0", or_default));
}

absl::Status CheckFactor(const Rope& rope, absl::string_view message) {
  return CheckNumber(message, {"factor", rope.factor}, rope.factor >= 1, "at least 1");
}

absl::Status CheckPositions(absl::string_view message, const char* name, Index positions) {
  if (positions >= 1) return absl::OkStatus();
  return MustError(absl::StrCat(message, ".", name), "be at least 1 token", positions);
}

absl::Status CheckDynamic(const Rope& rope, Index dim, absl::string_view message) {
  if (dim < 4) return MustError(message, "turn at least 4 features of a head to be dynamic", dim);
  ATTNPRUNE_RETURN_IF_ERROR(CheckFactor(rope, message));
  return CheckPositions(message, "max_positions", rope.max_positions);
}

absl::Status CheckLlama3(const Rope& rope, absl::string_view message) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckFactor(rope, message));
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckPositions(message, "original_max_positions", rope.original_max_positions));
  ATTNPRUNE_RETURN_IF_ERROR(CheckAbove0(message, {"low_freq_factor", rope.low_freq_factor}));
  return CheckNumber(message, {"high_freq_factor", rope.high_freq_factor},
                     rope.high_freq_factor > rope.low_freq_factor, "above low_freq_factor");
}

absl::Status CheckYarn(const Rope& rope, absl::string_view message, const ProblemFields& fields) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckFactor(rope, message));
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckPositions(message, "original_max_positions", rope.original_max_positions));
  ATTNPRUNE_RETURN_IF_ERROR(CheckAbove0(message, {"beta_slow", rope.beta_slow}));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNumber(message, {"beta_fast", rope.beta_fast},
                                        rope.beta_fast >= rope.beta_slow, "at least beta_slow"));
  return CheckNumber(fields.rope, {"theta", rope.theta}, rope.theta > 1, "above 1 for yarn");
}

absl::Status CheckFactors(absl::string_view message, const char* name,
                          const std::vector<double>& factors, Index pairs) {
  const std::string field = absl::StrCat(message, ".", name);
  if (static_cast<Index>(factors.size()) != pairs) {
    return MustError(field, absl::StrCat("have an entry for each pair of features, ", pairs),
                     factors.size());
  }
  for (const double factor : factors) {
    if (std::isfinite(factor) && factor > 0) continue;
    return MustError(field, "be finite and above 0", FormatNumber(factor));
  }
  return absl::OkStatus();
}

absl::Status CheckLongrope(const Rope& rope, Index dim, absl::string_view message) {
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckPositions(message, "original_max_positions", rope.original_max_positions));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFactors(message, "short_factor", rope.short_factor, dim / 2));
  return CheckFactors(message, "long_factor", rope.long_factor, dim / 2);
}

absl::Status CheckScaling(const Rope& rope, Index dim, const ProblemFields& fields) {
  const char* const message = fields.rope_scaling;
  switch (rope.scaling) {
    case RopeScaling::kDefault:
      return absl::OkStatus();
    case RopeScaling::kLinear:
      return CheckFactor(rope, message);
    case RopeScaling::kDynamic:
      return CheckDynamic(rope, dim, message);
    case RopeScaling::kLlama3:
      return CheckLlama3(rope, message);
    case RopeScaling::kYarn:
      return CheckYarn(rope, message, fields);
    case RopeScaling::kLongrope:
      return CheckLongrope(rope, dim, message);
  }
  return MustError(message, "be default, linear, dynamic, llama3, yarn or longrope",
                   static_cast<int>(rope.scaling));
}

absl::Status CheckTurned(const Rope& rope, Index head_dim, const ProblemFields& fields) {
  if (rope.dim == 0) {
    if (head_dim % 2 == 0) return absl::OkStatus();
    return MustError(fields.rope, "go with an even head_dim", head_dim);
  }
  if (rope.dim > 0 && rope.dim % 2 == 0 && rope.dim <= head_dim) return absl::OkStatus();
  return MustError(absl::StrCat(fields.rope, ".dim"),
                   absl::StrCat("be even, from 2 to head_dim (", head_dim, "), or 0 for all of it"),
                   rope.dim);
}

absl::Status CheckRope(const ProjectionShape& shape, const ProblemFields& fields) {
  if (!shape.rope.has_value()) return absl::OkStatus();
  const Rope& rope = *shape.rope;
  ATTNPRUNE_RETURN_IF_ERROR(CheckTurned(rope, HeadDim(shape), fields));
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckAbove0(fields.rope, {"theta", rope.theta}, fields.or_default_theta));
  if (rope.layout != RopeLayout::kRotateHalf && rope.layout != RopeLayout::kInterleaved) {
    return MustError(absl::StrCat(fields.rope, ".layout"), "be rotate_half or interleaved",
                     static_cast<int>(rope.layout));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckAbove0(fields.rope, {"attention_factor", rope.attention_factor}));
  return CheckScaling(rope, TurnedFeatures(rope, HeadDim(shape)), fields);
}

absl::Status CheckNorm(const ProjectionShape& shape, const ProblemFields& fields) {
  if (!shape.qk_norm.has_value()) return absl::OkStatus();
  const QkNormShape& norm = *shape.qk_norm;
  const auto field = [&fields](const char* name) {
    return absl::StrCat(fields.qk_norm, ".", name, fields.norm_shape);
  };
  if (norm.q_weight != shape.w_q.rows || norm.k_weight != shape.w_k.rows) {
    const bool q = norm.q_weight != shape.w_q.rows;
    return MustError(
        field(q ? "q_weight" : "k_weight"),
        absl::StrCat("come to one entry a row of ", q ? fields.w_q.name : fields.w_k.name, ", ",
                     q ? shape.w_q.rows : shape.w_k.rows),
        q ? norm.q_weight : norm.k_weight);
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckBias(field("q_bias"), norm.q_bias, shape.w_q.rows));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBias(field("k_bias"), norm.k_bias, shape.w_k.rows));
  if (std::isfinite(norm.eps) && norm.eps > 0) return absl::OkStatus();
  return MustError(absl::StrCat(fields.qk_norm, ".eps"), "be finite and above 0",
                   FormatNumber(norm.eps));
}

// A bound that is used as float32, 0 standing for none.
absl::Status CheckBound(const char* field, double bound) {
  const auto used = static_cast<float>(bound);
  if (std::isfinite(used) && (bound == 0 || used > 0)) return absl::OkStatus();
  return MustError(field, "be above 0 and finite in float32, or 0 for none", FormatNumber(bound));
}

absl::Status CheckAlibi(Alibi alibi, const ProblemFields& fields) {
  if (alibi == Alibi::kNone || alibi == Alibi::kBloom || alibi == Alibi::kFalcon) {
    return absl::OkStatus();
  }
  return MustError(fields.alibi, "be none, bloom or falcon", static_cast<int>(alibi));
}

}  // namespace

absl::Status ValidateProjections(const ProjectionShape& shape, const ProblemFields& fields) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckHeads(shape, fields));
  ATTNPRUNE_RETURN_IF_ERROR(CheckKeys(shape, fields));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBias(fields.b_q, shape.b_q, shape.w_q.rows));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBias(fields.b_k, shape.b_k, shape.w_k.rows));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRope(shape, fields));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNorm(shape, fields));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBound(fields.softcap, shape.softcap));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBound(fields.clip_qkv, shape.clip_qkv));
  return CheckAlibi(shape.alibi, fields);
}

}  // namespace attnprune
