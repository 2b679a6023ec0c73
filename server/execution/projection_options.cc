#include "server/execution/projection_options.h"

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

constexpr char kRope[] = "job.problem.projections.rope";
constexpr char kNorm[] = "job.problem.projections.qk_norm";
constexpr double kMostOffset = 1000;

double OrDefault(double value, double default_value) { return value == 0 ? default_value : value; }

absl::StatusOr<RopeLayout> DecodeLayout(v1::RopeLayout layout) {
  switch (layout) {
    case v1::ROPE_LAYOUT_UNSPECIFIED:
    case v1::ROTATE_HALF:
      return RopeLayout::kRotateHalf;
    case v1::INTERLEAVED:
      return RopeLayout::kInterleaved;
    default:
      return MustError(absl::StrCat(kRope, ".layout"), "be ROTATE_HALF or INTERLEAVED",
                       static_cast<int>(layout));
  }
}

absl::StatusOr<RopeScaling> DecodeScalingType(v1::RopeScalingType type) {
  switch (type) {
    case v1::LINEAR:
      return RopeScaling::kLinear;
    case v1::DYNAMIC:
      return RopeScaling::kDynamic;
    case v1::LLAMA3:
      return RopeScaling::kLlama3;
    case v1::YARN:
      return RopeScaling::kYarn;
    case v1::LONGROPE:
      return RopeScaling::kLongrope;
    default:
      return MustError(absl::StrCat(kRope, ".scaling.type"),
                       "be LINEAR, DYNAMIC, LLAMA3, YARN or LONGROPE", static_cast<int>(type));
  }
}

absl::Status DecodeScaling(const v1::RopeScaling& scaling, Rope* rope) {
  ATTNPRUNE_ASSIGN_OR_RETURN(rope->scaling, DecodeScalingType(scaling.type()));
  rope->factor = scaling.factor();
  rope->original_max_positions = scaling.original_max_positions();
  rope->max_positions = scaling.max_positions();
  rope->low_freq_factor = OrDefault(scaling.low_freq_factor(), rope->low_freq_factor);
  rope->high_freq_factor = OrDefault(scaling.high_freq_factor(), rope->high_freq_factor);
  rope->beta_fast = OrDefault(scaling.beta_fast(), rope->beta_fast);
  rope->beta_slow = OrDefault(scaling.beta_slow(), rope->beta_slow);
  if (scaling.has_truncate()) rope->truncate = scaling.truncate();
  rope->short_factor = {scaling.short_factor().begin(), scaling.short_factor().end()};
  rope->long_factor = {scaling.long_factor().begin(), scaling.long_factor().end()};
  return absl::OkStatus();
}

absl::StatusOr<NormKind> DecodeNormKind(v1::NormKind kind) {
  switch (kind) {
    case v1::NORM_KIND_UNSPECIFIED:
    case v1::RMS:
      return NormKind::kRms;
    case v1::LAYER:
      return NormKind::kLayer;
    default:
      return MustError(absl::StrCat(kNorm, ".kind"), "be RMS or LAYER", static_cast<int>(kind));
  }
}

absl::StatusOr<QkNormGroup> DecodeNormGroup(v1::NormGroup group) {
  switch (group) {
    case v1::NORM_GROUP_UNSPECIFIED:
    case v1::HEAD:
      return QkNormGroup::kHead;
    case v1::WHOLE:
      return QkNormGroup::kWhole;
    default:
      return MustError(absl::StrCat(kNorm, ".group"), "be HEAD or WHOLE", static_cast<int>(group));
  }
}

}  // namespace

absl::StatusOr<Rope> DecodeRope(const v1::Rope& rope) {
  Rope decoded;
  decoded.theta = OrDefault(rope.theta(), decoded.theta);
  ATTNPRUNE_ASSIGN_OR_RETURN(decoded.layout, DecodeLayout(rope.layout()));
  decoded.dim = rope.dim();
  decoded.attention_factor = OrDefault(rope.attention_factor(), decoded.attention_factor);
  if (rope.has_scaling()) ATTNPRUNE_RETURN_IF_ERROR(DecodeScaling(rope.scaling(), &decoded));
  return decoded;
}

absl::StatusOr<Alibi> DecodeAlibi(v1::Alibi alibi) {
  switch (alibi) {
    case v1::ALIBI_UNSPECIFIED:
      return Alibi::kNone;
    case v1::BLOOM:
      return Alibi::kBloom;
    case v1::FALCON:
      return Alibi::kFalcon;
    default:
      return MustError("job.problem.projections.alibi", "be BLOOM or FALCON, or 0 for none",
                       static_cast<int>(alibi));
  }
}

absl::StatusOr<QkNormShape> DecodeQkNorm(const v1::QkNorm& norm) {
  QkNormShape decoded;
  ATTNPRUNE_ASSIGN_OR_RETURN(decoded.kind, DecodeNormKind(norm.kind()));
  ATTNPRUNE_ASSIGN_OR_RETURN(decoded.group, DecodeNormGroup(norm.group()));
  decoded.eps = OrDefault(norm.eps(), decoded.eps);
  const double offset = norm.weight_offset();
  if (offset >= -kMostOffset && offset <= kMostOffset) return decoded;  // NaN fails too
  return MustError(absl::StrCat(kNorm, ".weight_offset"),
                   absl::StrCat("be in [", -kMostOffset, ", ", kMostOffset, "]"),
                   FormatNumber(offset));
}

}  // namespace attnprune
