#include "client/cli/jobs/rope_flags.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <set>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

// The numbers of a type, by their names in the message.
struct ScalingType {
  const char* name;
  v1::RopeScalingType type;
  std::vector<std::string> required, optional;
};

const std::vector<ScalingType>& ScalingTypes() {
  static const auto* const types = new std::vector<ScalingType>{
      {"linear", v1::LINEAR, {"factor"}, {}},
      {"dynamic", v1::DYNAMIC, {"factor", "max_positions"}, {}},
      {"llama3",
       v1::LLAMA3,
       {"factor", "original_max_positions"},
       {"low_freq_factor", "high_freq_factor"}},
      {"yarn",
       v1::YARN,
       {"factor", "original_max_positions"},
       {"beta_fast", "beta_slow", "truncate"}},
      {"longrope", v1::LONGROPE, {"original_max_positions", "short_factor", "long_factor"}, {}}};
  return *types;
}

absl::Status ScalingError(absl::string_view rule, absl::string_view got) {
  return absl::InvalidArgumentError(absl::StrCat("--rope-scaling must ", rule, ", got ", got));
}

absl::StatusOr<const ScalingType*> FindType(const std::string& name) {
  std::vector<std::string> names;
  for (const ScalingType& type : ScalingTypes()) {
    if (type.name == name) return &type;
    names.push_back(type.name);
  }
  return ScalingError(absl::StrCat("be one of ", absl::StrJoin(names, ", ")), name);
}

// One "NAME=NUMBER" or "NAME=NUMBER/NUMBER/...".
absl::Status SetNumber(const std::string& name, const std::string& value, v1::RopeScaling* out) {
  using Field = google::protobuf::FieldDescriptor;
  const Field* field = out->GetDescriptor()->FindFieldByName(name);
  const google::protobuf::Reflection& set = *out->GetReflection();
  for (const std::string& text : std::vector<std::string>(absl::StrSplit(value, '/'))) {
    double number = 0;
    int64_t whole = 0;
    if (field->cpp_type() == Field::CPPTYPE_BOOL && (text == "0" || text == "1")) {
      set.SetBool(out, field, text == "1");
    } else if (field->cpp_type() == Field::CPPTYPE_INT64 && absl::SimpleAtoi(text, &whole)) {
      set.SetInt64(out, field, whole);
    } else if (field->cpp_type() == Field::CPPTYPE_DOUBLE && absl::SimpleAtod(text, &number)) {
      if (field->is_repeated()) {
        set.AddDouble(out, field, number);
      } else {
        set.SetDouble(out, field, number);
      }
    } else {
      return ScalingError(absl::StrCat("have a number for ", name), value);
    }
    if (!field->is_repeated() && text != value) {
      return ScalingError(absl::StrCat("have one number for ", name), value);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const ScalingType& type, const std::set<std::string>& given) {
  std::vector<std::string> known = type.required;
  known.insert(known.end(), type.optional.begin(), type.optional.end());
  for (const std::string& name : given) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    return ScalingError(absl::StrCat("have for ", type.name, " only ", absl::StrJoin(known, ", ")),
                        name);
  }
  for (const std::string& name : type.required) {
    if (given.contains(name)) continue;
    return ScalingError(absl::StrCat("say ", name, "=... for ", type.name), "none");
  }
  return absl::OkStatus();
}

absl::Status CheckRopeFlags(const JobFlags& f) {
  if (!f.rope_theta) {
    return absl::InvalidArgumentError(
        "--rope-layout, --rope-dim, --rope-scaling and --rope-attention-factor need --rope-theta");
  }
  if (!(*f.rope_theta > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rope-theta must be above 0, got ", *f.rope_theta));
  }
  if (f.rope_attention_factor && !(*f.rope_attention_factor > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rope-attention-factor must be above 0, got ", *f.rope_attention_factor));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::RopeScaling> ParseRopeScaling(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  ATTNPRUNE_ASSIGN_OR_RETURN(const ScalingType* type, FindType(parts[0]));
  std::vector<std::pair<std::string, std::string>> numbers;
  std::set<std::string> given;
  for (const std::string& pair : std::vector<std::string>(
           absl::StrSplit(parts.size() < 2 ? "" : parts[1], ',', absl::SkipEmpty()))) {
    const std::vector<std::string> sides = absl::StrSplit(pair, absl::MaxSplits('=', 1));
    if (sides.size() != 2) return ScalingError("be TYPE[:NAME=NUMBER,...]", text);
    if (!given.insert(sides[0]).second) return ScalingError("name a number once", sides[0]);
    numbers.emplace_back(sides[0], sides[1]);
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckNumbers(*type, given));
  v1::RopeScaling scaling;
  scaling.set_type(type->type);
  for (const auto& [name, value] : numbers) {
    ATTNPRUNE_RETURN_IF_ERROR(SetNumber(name, value, &scaling));
  }
  return scaling;
}

bool HasRopeFlags(const JobFlags& f) {
  return f.rope_theta || !f.rope_layout.empty() || f.rope_dim != 0 || !f.rope_scaling.empty() ||
         f.rope_attention_factor;
}

absl::Status SetRope(const JobFlags& f, v1::ProjectionProblem* layer) {
  if (!HasRopeFlags(f)) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(CheckRopeFlags(f));
  v1::Rope& rope = *layer->mutable_rope();
  rope.set_theta(*f.rope_theta);
  rope.set_layout(f.rope_layout == "interleaved" ? v1::INTERLEAVED : v1::ROTATE_HALF);
  rope.set_dim(f.rope_dim);
  rope.set_attention_factor(f.rope_attention_factor.value_or(1));
  if (f.rope_scaling.empty()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(*rope.mutable_scaling(), ParseRopeScaling(f.rope_scaling));
  const v1::RopeScalingType type = rope.scaling().type();
  if ((type != v1::YARN && type != v1::LONGROPE) || f.rope_attention_factor) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      type == v1::YARN
          ? "--rope-scaling yarn needs --rope-attention-factor: 0.1 ln(factor) + 1, unless the "
            "model's config says otherwise"
          : "--rope-scaling longrope needs --rope-attention-factor: sqrt(1 + ln(F) / "
            "ln(original_max_positions)) with F = max_positions / original_max_positions, unless "
            "the model's config says otherwise");
}

}  // namespace attnprune::cli
