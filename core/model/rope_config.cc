// Source of the rules: modeling_rope_utils.py of huggingface/transformers 4.55 and 5.
#include "core/model/rope_config.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

using nlohmann::json;

constexpr struct {
  const char* name;
  RopeScaling scaling;
} kRopeTypes[] = {
    {"default", RopeScaling::kDefault}, {"linear", RopeScaling::kLinear},
    {"dynamic", RopeScaling::kDynamic}, {"llama3", RopeScaling::kLlama3},
    {"yarn", RopeScaling::kYarn},       {"longrope", RopeScaling::kLongrope},
};

// Every option that some type reads; one that the type at hand does not read changes nothing.
constexpr absl::string_view kRopeOptions[] = {
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "low_freq_factor",
    "partial_rotary_factor",
    "beta_fast",
    "high_freq_factor",
    "original_max_position_embeddings",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "long_factor",
    "short_factor",
    "attention_factor",
    "truncate",
    "max_position_embeddings",
};

// Whether a family may differ by layer type: {"full_attention": {...}, "sliding_attention": {...}}.
bool IsByLayerType(const ConfigSection& section) {
  return section.Find("full_attention") != nullptr || section.Find("sliding_attention") != nullptr;
}

absl::Status CheckOptions(const ConfigSection& section) {
  for (const auto& [name, value] : section.object().items()) {
    const bool known =
        std::find(std::begin(kRopeOptions), std::end(kRopeOptions), name) != std::end(kRopeOptions);
    if (!known && !value.is_null()) return section.Refuse(name, "not be given", value);
  }
  return absl::OkStatus();
}

absl::StatusOr<RopeScaling> ReadScaling(const ConfigSection& section, const Family& family) {
  const char* key = section.Find("rope_type") != nullptr ? "rope_type" : "type";
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string type, section.TextOr(key, "default"));
  // Old files of phi3 call longrope so.
  const bool old_name =
      absl::string_view(family.model_type) == "phi3" && (type == "su" || type == "yarn");
  if (old_name) return RopeScaling::kLongrope;
  std::string names;
  for (const auto& known : kRopeTypes) {
    if (type == known.name) return known.scaling;
    absl::StrAppend(&names, names.empty() ? "" : ", ", known.name);
  }
  return section.Refuse(key, absl::StrCat("be one of ", names), json(type));
}

// What several types compute their attention factor from.
double YarnMagnitude(double factor, double weight) {
  return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
}

class RopeReader {
 public:
  RopeReader(const ConfigSection& section, RopeConfig& config, Rope& rope)
      : section_(section), config_(config), rope_(rope) {}

  absl::Status ReadFactor() {
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.factor, section_.PositiveOr("factor", 0));
    if (rope_.factor >= 1) return absl::OkStatus();
    const json* value = section_.Find("factor");
    return section_.Refuse("factor", "be at least 1", value == nullptr ? json() : *value);
  }

  absl::Status ReadLlama3() {
    ATTNPRUNE_RETURN_IF_ERROR(ReadFactor());
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.low_freq_factor, section_.PositiveOr("low_freq_factor", 1));
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.high_freq_factor, section_.PositiveOr("high_freq_factor", 4));
    if (rope_.high_freq_factor > rope_.low_freq_factor) return absl::OkStatus();
    return section_.Refuse("high_freq_factor",
                           absl::StrCat("be above low_freq_factor (", rope_.low_freq_factor, ")"),
                           json(rope_.high_freq_factor));
  }

  absl::Status ReadYarn() {
    const double longer = LongerBy();
    if (section_.Find("factor") == nullptr) {
      rope_.factor = std::max(longer, 1.0);
    } else {
      ATTNPRUNE_RETURN_IF_ERROR(ReadFactor());
      if (section_.Find("original_max_position_embeddings") != nullptr && rope_.factor != longer) {
        config_.notes.push_back(absl::StrCat(
            "yarn: factor ", rope_.factor, " is used, as transformers 5 does; 4.55 takes ", longer,
            ", max_position_embeddings over original_max_position_embeddings"));
      }
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.beta_fast, section_.PositiveOr("beta_fast", 32));
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.beta_slow, section_.PositiveOr("beta_slow", 1));
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.truncate, section_.SwitchOr("truncate", true));
    ATTNPRUNE_ASSIGN_OR_RETURN(const double above, section_.RealOr("mscale", 0));
    ATTNPRUNE_ASSIGN_OR_RETURN(const double below, section_.RealOr("mscale_all_dim", 0));
    const double rule = above != 0 && below != 0 ? YarnMagnitude(rope_.factor, above) /
                                                       YarnMagnitude(rope_.factor, below)
                                                 : YarnMagnitude(rope_.factor, 1);
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.attention_factor,
                               section_.PositiveOr("attention_factor", rule));
    return absl::OkStatus();
  }

  absl::Status ReadLongrope() {
    ATTNPRUNE_ASSIGN_OR_RETURN(const double factor, section_.PositiveOr("factor", LongerBy()));
    const double original = static_cast<double>(rope_.original_max_positions);
    const double rule =
        factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(std::max(original, 2.0)));
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.attention_factor,
                               section_.PositiveOr("attention_factor", rule));
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.short_factor, ReadFactors("short_factor"));
    ATTNPRUNE_ASSIGN_OR_RETURN(rope_.long_factor, ReadFactors("long_factor"));
    return absl::OkStatus();
  }

 private:
  // L / L0.
  double LongerBy() const {
    return static_cast<double>(rope_.max_positions) /
           static_cast<double>(rope_.original_max_positions);
  }

  absl::StatusOr<std::vector<double>> ReadFactors(const char* key) const {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<double> factors, section_.PositiveList(key));
    const size_t pairs = static_cast<size_t>(rope_.dim / 2);
    if (factors.size() == pairs) return factors;
    return section_.Refuse(key, absl::StrCat("have ", pairs, " entries, one a pair of features"),
                           json(factors.size()));
  }

  const ConfigSection& section_;
  RopeConfig& config_;
  Rope& rope_;
};

// One rotary embedding from one object of options on top of what the top level says.
absl::Status ReadOptions(const ConfigSection& section, const Family& family, Index head_dim,
                         RopeConfig& config, Rope& rope) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckOptions(section));
  ATTNPRUNE_ASSIGN_OR_RETURN(rope.theta, section.PositiveOr("rope_theta", rope.theta));
  if (section.Find("partial_rotary_factor") != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const double partial,
                               section.PositiveOr("partial_rotary_factor", 1));
    // Above head_dim it is refused, however far: 1e300 is no Index.
    rope.dim = static_cast<Index>(static_cast<double>(head_dim) * std::min(partial, 2.0));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(rope.scaling, ReadScaling(section, family));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      rope.original_max_positions,
      section.CountOr("original_max_position_embeddings", rope.original_max_positions));
  RopeReader reader(section, config, rope);
  switch (rope.scaling) {
    case RopeScaling::kDefault:
      return absl::OkStatus();
    case RopeScaling::kLinear:
    case RopeScaling::kDynamic:
      return reader.ReadFactor();
    case RopeScaling::kLlama3:
      return reader.ReadLlama3();
    case RopeScaling::kYarn:
      return reader.ReadYarn();
    case RopeScaling::kLongrope:
      return reader.ReadLongrope();
  }
  return absl::OkStatus();
}

absl::Status CheckDim(const ConfigSection& config, const Rope& rope, Index head_dim) {
  if (rope.dim >= 2 && rope.dim <= head_dim && rope.dim % 2 == 0) return absl::OkStatus();
  return config.Refuse("head_dim times the partial rotary factor",
                       absl::StrCat("be even and in [2, head_dim = ", head_dim, "]"),
                       json(rope.dim));
}

// gptj counts the features that turn; the others give a share.
absl::StatusOr<Index> ReadTurned(const ConfigSection& config, const Family& family,
                                 Index head_dim) {
  if (family.partial_key == nullptr) return config.CountOr("rotary_dim", 64);
  ATTNPRUNE_ASSIGN_OR_RETURN(const double partial,
                             config.PositiveOr(family.partial_key, family.partial));
  return static_cast<Index>(static_cast<double>(head_dim) * std::min(partial, 1e6));
}

}  // namespace

absl::StatusOr<RopeConfig> ReadRopeConfig(const ConfigSection& config, const Family& family,
                                          Index head_dim, Index max_positions) {
  RopeConfig out;
  Rope base;
  base.layout = family.interleaved ? RopeLayout::kInterleaved : RopeLayout::kRotateHalf;
  base.theta = family.theta;
  if (family.theta_key != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(base.theta, config.PositiveOr(family.theta_key, family.theta));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(base.dim, ReadTurned(config, family, head_dim));
  base.max_positions = max_positions;
  ATTNPRUNE_ASSIGN_OR_RETURN(base.original_max_positions,
                             config.CountOr("original_max_position_embeddings", max_positions));
  out.everywhere = base;
  const bool by_layer_type = family.local_theta_key != nullptr;
  if (by_layer_type) {
    out.sliding = base;
    ATTNPRUNE_ASSIGN_OR_RETURN(out.sliding->theta,
                               config.PositiveOr(family.local_theta_key, 10000));
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (config.Find(key) == nullptr) continue;
    ATTNPRUNE_ASSIGN_OR_RETURN(const ConfigSection section, config.Below(key));
    if (!by_layer_type || !IsByLayerType(section)) {
      ATTNPRUNE_RETURN_IF_ERROR(ReadOptions(section, family, head_dim, out, out.everywhere));
      continue;
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const ConfigSection full, section.Below("full_attention"));
    ATTNPRUNE_RETURN_IF_ERROR(ReadOptions(full, family, head_dim, out, out.everywhere));
    ATTNPRUNE_ASSIGN_OR_RETURN(const ConfigSection sliding, section.Below("sliding_attention"));
    ATTNPRUNE_RETURN_IF_ERROR(ReadOptions(sliding, family, head_dim, out, *out.sliding));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckDim(config, out.everywhere, head_dim));
  if (out.sliding.has_value()) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckDim(config, *out.sliding, head_dim));
  }
  return out;
}

}  // namespace attnprune
