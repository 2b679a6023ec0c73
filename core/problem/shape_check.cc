// A message is "<field> must <rule>, got <value>".
#include "core/problem/shape_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/problem/projection_check.h"

namespace attnprune {
namespace {

constexpr Index kBlasMax = std::numeric_limits<int>::max();  // OpenBLAS counts in 32 bits

std::string Text(const MatrixShape& shape) { return absl::StrCat(shape.rows, " x ", shape.cols); }

absl::Status CheckExtent(const TensorField& tensor, const MatrixShape& shape) {
  if (shape.rows > kBlasMax || shape.cols > kBlasMax) {
    return MustError(tensor.field, absl::StrCat("have at most ", kBlasMax, " rows and columns"),
                     Text(shape));
  }
  if (shape.empty()) {
    return MustError(tensor.field, "have at least one row and one column", Text(shape));
  }
  return absl::OkStatus();
}

absl::Status CheckFused(const FusedShape& shape, const ProblemFields& fields) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent(fields.w, shape.w));
  if (shape.w.rows != shape.w.cols) return MustError(fields.w.field, "be square", Text(shape.w));
  if (!shape.has_factors()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(ValidateFactors(shape.w_q, shape.w_k, fields));
  if (shape.w_q.rows == shape.w.rows) return absl::OkStatus();
  return MustError(fields.factor_q.field,
                   absl::StrCat("have the ", shape.w.rows, " rows of ", fields.w.name),
                   shape.w_q.rows);
}

absl::Status CheckProjections(const ProjectionShape& shape, const ProblemFields& fields) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent(fields.w_q, shape.w_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent(fields.w_k, shape.w_k));
  return ValidateProjections(shape, fields);
}

// A scale is used as float32; its sign belongs to the weights, and 0 would hide them altogether.
absl::Status CheckScale(const absl::optional<double>& scale, const ProblemFields& fields) {
  if (!scale.has_value()) return absl::OkStatus();
  const float used = static_cast<float>(*scale);
  if (std::isfinite(used) && used > 0) return absl::OkStatus();
  return MustError(fields.scale, "be above 0 and finite in float32", *scale);
}

absl::Status CheckGroups(const ProblemShape& shape, const ProblemFields& fields) {
  const Sparsity& sparsity = shape.sparsity;
  if (!sparsity.structured() || shape.features() % sparsity.group == 0) return absl::OkStatus();
  return MustError(fields.n_of_m,
                   absl::StrCat("be N:M with M dividing the ", shape.features(), " inputs"),
                   ToString(sparsity));
}

std::string Text(const BatchGroup& group) {
  const std::string batches = group.batches == 1 ? "" : absl::StrCat(group.batches, " x ");
  return absl::StrCat(batches, group.length, " x ", group.features);
}

// `field`: calibration or held_out.
absl::Status CheckBatches(const char* field, const std::vector<BatchGroup>& groups, Index features,
                          const ProblemFields& fields) {
  Index tokens = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const BatchGroup& group = groups[i];
    if (group.batches < 1 || group.length < 1) {
      return MustError(absl::StrCat(field, "[", i, "]"), "have at least one token", "none");
    }
    if (group.features != features) {
      return MustError(absl::StrCat(field, "[", i, "]", fields.batch_shape),
                       absl::StrCat("fit the weights' input features, d = ", features),
                       Text(group));
    }
    if (group.batches > (kBlasMax - tokens) / group.length) {
      return MustError(field, absl::StrCat("have at most ", kBlasMax, " tokens"), "more");
    }
    tokens += group.batches * group.length;
  }
  const bool attends = std::any_of(groups.begin(), groups.end(),
                                   [](const BatchGroup& group) { return group.length > 1; });
  if (groups.empty() || attends) return absl::OkStatus();
  return MustError(field,
                   "have a sequence of at least 2 tokens, since attention over one key is constant",
                   Text(groups.front()));
}

Index CountBatches(const std::vector<BatchGroup>& groups) {
  Index count = 0;
  for (const BatchGroup& group : groups) count += group.batches;
  return count;
}

// After CheckBatches, which bounds the number of batches.
absl::Status CheckHeldOutFraction(const ProblemShape& shape, const ProblemFields& fields) {
  const double fraction = shape.held_out_fraction;
  if (fraction == 0) return absl::OkStatus();
  if (!(fraction > 0 && fraction < 1)) {  // written so that NaN fails too
    return MustError(fields.held_out_fraction, "be in [0, 1)", fraction);
  }
  if (!shape.held_out.empty()) {
    return MustError(fields.held_out_fraction,
                     absl::StrCat("be 0 where ", fields.held_out, " is given"), fraction);
  }
  if (CountBatches(shape.calibration) >= 2) return absl::OkStatus();
  return MustError(fields.held_out_fraction,
                   "be 0 with a single calibration batch, which cannot be split", fraction);
}

absl::Status CheckData(const ProblemShape& shape, const ProblemFields& fields) {
  if (shape.calibration.empty()) return MustError(fields.calibration, "have at least one batch", 0);
  const Index features = shape.features();
  ATTNPRUNE_RETURN_IF_ERROR(CheckBatches(fields.calibration, shape.calibration, features, fields));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBatches(fields.held_out, shape.held_out, features, fields));
  return CheckHeldOutFraction(shape, fields);
}

}  // namespace

absl::Status ValidateFactors(const MatrixShape& w_q, const MatrixShape& w_k,
                             const ProblemFields& fields) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent(fields.factor_q, w_q));
  ATTNPRUNE_RETURN_IF_ERROR(CheckExtent(fields.factor_k, w_k));
  if (w_q == w_k) return absl::OkStatus();
  return MustError(fields.factor_k.field,
                   absl::StrCat("match ", fields.factor_q.name, ", ", Text(w_q)), Text(w_k));
}

absl::Status ValidateNOfM(Index n, Index m, const ProblemFields& fields) {
  if (m >= 2 && n >= 0 && n < m) return absl::OkStatus();
  return MustError(fields.n_of_m, "be N:M with 0 <= N < M and M >= 2", absl::StrCat(n, ":", m));
}

absl::Status Validate(const Sparsity& sparsity, const ProblemFields& fields) {
  if (sparsity.structured()) return ValidateNOfM(sparsity.pruned, sparsity.group, fields);
  // Written so that NaN fails too.
  if (sparsity.fraction >= 0 && sparsity.fraction < 1) return absl::OkStatus();
  return MustError(fields.fraction, "be in [0, 1)", ToString(sparsity));
}

absl::Status Validate(const AttentionMask& mask, const ProblemFields& fields) {
  switch (mask.kind) {
    case AttentionMask::Kind::kCausal:
    case AttentionMask::Kind::kFull:
      if (mask.size == 0) return absl::OkStatus();
      return MustError(absl::StrCat(fields.attention, ".size"),
                       absl::StrCat("be 0 for ", ToString(mask)), mask.size);
    case AttentionMask::Kind::kBlock:
    case AttentionMask::Kind::kWindow:
      if (mask.size >= 1) return absl::OkStatus();
      return MustError(absl::StrCat(fields.attention, ".size"), "be at least 1 token",
                       ToString(mask));
  }
  return MustError(fields.attention, "be causal, full, block or window",
                   static_cast<int>(mask.kind));
}

absl::Status Validate(const ProblemShape& shape, const ProblemFields& fields) {
  ATTNPRUNE_RETURN_IF_ERROR(
      shape.fused() ? CheckFused(std::get<FusedShape>(shape.weights), fields)
                    : CheckProjections(std::get<ProjectionShape>(shape.weights), fields));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(shape.attention, fields));
  ATTNPRUNE_RETURN_IF_ERROR(CheckScale(shape.scale, fields));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(shape.sparsity, fields));
  ATTNPRUNE_RETURN_IF_ERROR(CheckGroups(shape, fields));
  return CheckData(shape, fields);
}

}  // namespace attnprune
