#include "core/methods/registry.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"
#include "core/methods/gd.h"
#include "core/methods/joint.h"
#include "core/methods/magnitude.h"
#include "core/methods/refit.h"
#include "core/methods/sparsegpt.h"
#include "core/methods/ste.h"
#include "core/methods/wanda.h"

namespace attnprune {
namespace {

absl::StatusOr<const MethodInfo*> FindMethod(absl::string_view name) {
  std::vector<std::string> known;
  for (const MethodInfo& info : Methods()) {
    if (name == info.name) return &info;
    known.emplace_back(info.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("method must be one of ", absl::StrJoin(known, ", "), ", got \"", name, "\""));
}

absl::StatusOr<const Parameter*> FindParameter(const MethodInfo& method, const std::string& name) {
  std::vector<std::string> known;
  for (const Parameter& parameter : method.parameters) {
    if (name == parameter.name) return &parameter;
    known.emplace_back(parameter.name);
  }
  return absl::InvalidArgumentError(absl::StrCat(method.name, " has no parameter \"", name,
                                                 "\"; it has ", absl::StrJoin(known, ", ")));
}

absl::Status CheckValue(const MethodInfo& method, const Parameter& parameter, double value) {
  const bool whole = parameter.kind == Parameter::Kind::kReal || value == std::floor(value);
  if (whole && value >= parameter.min && value <= parameter.max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(method.name, ".", parameter.name, " must be ",
                   parameter.kind == Parameter::Kind::kReal ? "a number" : "a whole number",
                   " in [", FormatNumber(parameter.min), ", ", FormatNumber(parameter.max),
                   "], got ", FormatNumber(value)));
}

}  // namespace

absl::Span<const MethodInfo> Methods() {
  static const std::vector<MethodInfo>& methods = *new std::vector<MethodInfo>{
      GdInfo(),        WithRefit(GdInfo()),        JointInfo(),     WithRefit(JointInfo()),
      MagnitudeInfo(), WithRefit(MagnitudeInfo()), SparseGptInfo(), WithRefit(SparseGptInfo()),
      SteInfo(),       WithRefit(SteInfo()),       WandaInfo(),     WithRefit(WandaInfo())};
  return methods;
}

absl::StatusOr<std::unique_ptr<Method>> CreateMethod(
    absl::string_view name, const std::map<std::string, double>& parameters) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MethodInfo* const info, FindMethod(name));
  std::map<std::string, double> values;
  for (const Parameter& parameter : info->parameters) {
    values[parameter.name] = parameter.default_value;
  }
  for (const auto& [key, value] : parameters) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Parameter* const parameter, FindParameter(*info, key));
    ATTNPRUNE_RETURN_IF_ERROR(CheckValue(*info, *parameter, value));
    values[key] = value;
  }
  return info->create(ParameterValues(std::move(values)));
}

absl::optional<double> ValueOf(absl::string_view method,
                               const std::map<std::string, double>& parameters,
                               absl::string_view parameter) {
  for (const MethodInfo& info : Methods()) {
    if (method != info.name) continue;
    for (const Parameter& declared : info.parameters) {
      if (parameter != declared.name) continue;
      const auto given = parameters.find(declared.name);
      return given == parameters.end() ? declared.default_value : given->second;
    }
  }
  return absl::nullopt;
}

int StepsAtMost(absl::string_view method, const std::map<std::string, double>& parameters) {
  constexpr double kMost = 1e6;  // of each; what is out of range is refused elsewhere
  double steps = 0;
  for (const char* parameter : {"steps", "refit_steps"}) {
    steps += std::clamp(ValueOf(method, parameters, parameter).value_or(0), 0.0, kMost);
  }
  return static_cast<int>(steps);
}

int DefaultEvaluateEvery(absl::string_view method,
                         const std::map<std::string, double>& parameters) {
  constexpr int kEvery = 10, kEvaluations = 100;
  return std::max(kEvery, (StepsAtMost(method, parameters) + kEvaluations - 1) / kEvaluations);
}

absl::StatusOr<std::unique_ptr<Method>> ParseMethod(absl::string_view text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  std::map<std::string, double> parameters;
  for (absl::string_view item : absl::StrSplit(parts.second, ',', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(item, absl::MaxSplits('=', 1));
    double value = 0;
    if (!absl::SimpleAtod(pair.second, &value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("method must read NAME or NAME:PARAMETER=NUMBER,..., got \"", text, "\""));
    }
    if (!parameters.emplace(pair.first, value).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(parts.first, ".", pair.first, " must be given once, got \"", text, "\""));
    }
  }
  return CreateMethod(parts.first, parameters);
}

}  // namespace attnprune
