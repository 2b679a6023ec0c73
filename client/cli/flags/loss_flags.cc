#include "client/cli/flags/loss_flags.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/methods/registry.h"

namespace attnprune::cli {
namespace {

// "off", or "on" with parameters, as a method is written.
class OnFlag {
 public:
  // usage: "--curvature must be off or on[...]".
  OnFlag(std::string usage, const std::string& text) : usage_(std::move(usage)), text_(text) {}

  // nullopt: off.
  absl::StatusOr<std::optional<MethodSpec>> Parse() const {
    const absl::StatusOr<MethodSpec> spec = ParseMethodSpec(text_);
    if (!spec.ok()) return Refused(absl::StrCat(": ", spec.status().message()));
    if (spec->name == "off" && spec->parameters.empty()) return std::nullopt;
    if (spec->name != "on") return Refused("");
    return *spec;
  }

  absl::StatusOr<int32_t> Count(const std::string& name, double value) const {
    if (value >= 1 && value <= std::numeric_limits<int32_t>::max() && value == std::trunc(value)) {
      return static_cast<int32_t>(value);
    }
    return Refused(absl::StrCat(": ", name, " must be a whole number from 1 on"));
  }

  absl::Status NoParameter(const std::string& name) const {
    return Refused(absl::StrCat(": on has no parameter ", name));
  }

 private:
  absl::Status Refused(const std::string& why) const {
    return absl::InvalidArgumentError(absl::StrCat(usage_, ", got ", text_, why));
  }

  const std::string usage_, text_;
};

}  // namespace

absl::StatusOr<std::optional<v1::Curvature>> ParseCurvatureFlag(const std::string& text) {
  const OnFlag flag("--curvature must be off or on[:rows=COUNT,labels=COUNT,widest=COUNT]", text);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::optional<MethodSpec> spec, flag.Parse());
  if (!spec.has_value()) return std::nullopt;
  v1::Curvature curvature;
  for (const auto& [name, value] : spec->parameters) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t count, flag.Count(name, value));
    if (name == "rows") {
      curvature.set_rows(count);
    } else if (name == "labels") {
      curvature.set_labels(count);
    } else if (name == "widest") {
      curvature.set_widest(count);
    } else {
      return flag.NoParameter(name);
    }
  }
  return curvature;
}

absl::StatusOr<SampledFlag> ParseSampledFlag(const std::string& text) {
  const auto refused = [&text](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--sampled-rows must be off, on or COUNT, with [:temperature=NUMBER,prefix=COUNT], got ",
        text, why));
  };
  const absl::StatusOr<MethodSpec> spec = ParseMethodSpec(text);
  if (!spec.ok()) return refused(absl::StrCat(": ", spec.status().message()));
  SampledFlag flag;
  if (spec->name == "off") {
    flag.rows = 0;
  } else if (spec->name != "on") {
    int rows = 0;
    if (!absl::SimpleAtoi(spec->name, &rows) || rows < 0) return refused("");
    flag.rows = rows;
  }
  if (flag.rows == 0 && !spec->parameters.empty()) return refused(": no rows have parameters");
  for (const auto& [name, value] : spec->parameters) {
    if (name == "temperature") {
      flag.how.set_temperature(value);
    } else if (name != "prefix") {
      return refused(absl::StrCat(": there is no parameter ", name));
    } else if (value >= 1 && value <= std::numeric_limits<int32_t>::max() &&
               value == std::trunc(value)) {
      flag.how.set_prefix(static_cast<int32_t>(value));
    } else {
      return refused(": prefix must be a whole number from 1 on");
    }
  }
  return flag;
}

absl::StatusOr<std::optional<v1::Training>> ParseTrainingFlag(const std::string& name,
                                                              const std::string& text) {
  const OnFlag flag(absl::StrCat(name, " must be off or on[:steps=COUNT,rows=COUNT,rate=NUMBER]"),
                    text);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::optional<MethodSpec> spec, flag.Parse());
  if (!spec.has_value()) return std::nullopt;
  v1::Training training;
  for (const auto& [parameter, value] : spec->parameters) {
    if (parameter == "rate") {
      training.set_rate(value);
    } else if (parameter == "steps") {
      ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t count, flag.Count(parameter, value));
      training.set_steps(count);
    } else if (parameter == "rows") {
      ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t count, flag.Count(parameter, value));
      training.set_rows(count);
    } else {
      return flag.NoParameter(parameter);
    }
  }
  return training;
}

}  // namespace attnprune::cli
