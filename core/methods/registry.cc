#include "core/methods/registry.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/field_error.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"
#include "core/methods/methods.h"

namespace attnprune {
namespace {

absl::StatusOr<const MethodInfo*> FindMethod(absl::string_view name) {
  std::vector<std::string> known;
  for (const MethodInfo& info : Methods()) {
    if (name == info.name) return &info;
    known.emplace_back(info.name);
  }
  return FieldError("method", absl::StrCat("must be one of ", absl::StrJoin(known, ", "),
                                           ", got \"", name, "\""));
}

absl::StatusOr<const Parameter*> FindParameter(const MethodInfo& method, const std::string& name) {
  std::vector<std::string> known;
  for (const Parameter& parameter : method.parameters) {
    if (name == parameter.name) return &parameter;
    known.emplace_back(parameter.name);
  }
  return FieldError(method.name, absl::StrCat("has no parameter \"", name, "\"; it has ",
                                              absl::StrJoin(known, ", ")));
}

absl::Status CheckValue(const MethodInfo& method, const Parameter& parameter, double value) {
  const bool whole = parameter.kind == Parameter::Kind::kReal || value == std::floor(value);
  if (whole && value >= parameter.min && value <= parameter.max) return absl::OkStatus();
  return FieldError(
      absl::StrCat(method.name, ".", parameter.name),
      absl::StrCat("must be ",
                   parameter.kind == Parameter::Kind::kReal ? "a number" : "a whole number",
                   " in [", FormatNumber(parameter.min), ", ", FormatNumber(parameter.max),
                   "], got ", FormatNumber(value)));
}

}  // namespace

absl::Span<const MethodInfo> Methods() {
  static const std::vector<MethodInfo>& methods = *new std::vector<MethodInfo>{
      AlpsInfo(),      WithRefit(AlpsInfo()),      GdInfo(),        WithRefit(GdInfo()),
      JointInfo(),     WithRefit(JointInfo()),     KfacInfo(),      WithRefit(KfacInfo()),
      MagnitudeInfo(), WithRefit(MagnitudeInfo()), SparseGptInfo(), WithRefit(SparseGptInfo()),
      SteInfo(),       WithRefit(SteInfo()),       WandaInfo(),     WithRefit(WandaInfo())};
  return methods;
}

absl::StatusOr<ChosenMethod> ChooseMethod(const MethodSpec& spec) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MethodInfo* const info, FindMethod(spec.name));
  std::map<std::string, double> values;
  for (const Parameter& parameter : info->parameters) {
    values[parameter.name] = parameter.default_value;
  }
  for (const auto& [key, value] : spec.parameters) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Parameter* const parameter, FindParameter(*info, key));
    ATTNPRUNE_RETURN_IF_ERROR(CheckValue(*info, *parameter, value));
    values[key] = value;
  }
  return ChosenMethod{info, ParameterValues(std::move(values))};
}

absl::StatusOr<std::unique_ptr<Method>> CreateMethod(
    const std::string& name, const std::map<std::string, double>& parameters) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const ChosenMethod method, ChooseMethod({name, parameters}));
  return method.Create();
}

int DefaultEvaluateEvery(int steps_at_most) {
  constexpr int kEvery = 10, kEvaluations = 100;
  return std::max(kEvery, (steps_at_most + kEvaluations - 1) / kEvaluations);
}

absl::StatusOr<MethodSpec> ParseMethodSpec(absl::string_view text, absl::string_view field) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  const auto refused = [&] {
    return FieldError(
        field, absl::StrCat("must be NAME or NAME:PARAMETER=NUMBER,..., got \"", text, "\""));
  };
  MethodSpec spec{.name = parts[0], .parameters = {}};
  if (spec.name.empty()) return refused();
  if (parts.size() == 1) return spec;
  for (const absl::string_view item : absl::StrSplit(parts[1], ',')) {
    const std::vector<std::string> sides = absl::StrSplit(item, absl::MaxSplits('=', 1));
    double value = 0;
    if (sides.size() != 2 || sides[0].empty() || !absl::SimpleAtod(sides[1], &value)) {
      return refused();
    }
    if (!spec.parameters.emplace(sides[0], value).second) {
      return FieldError(absl::StrCat(spec.name, ".", sides[0]),
                        absl::StrCat("must be given once, got \"", text, "\""));
    }
  }
  return spec;
}

absl::StatusOr<std::unique_ptr<Method>> ParseMethod(absl::string_view text) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MethodSpec spec, ParseMethodSpec(text));
  return CreateMethod(spec.name, spec.parameters);
}

}  // namespace attnprune
