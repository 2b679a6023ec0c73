// Every method by name, with its parameters: the command line, the server and validation read this
// table, so that a new method is one file and one line here.
#ifndef ATTNPRUNE_CORE_METHODS_REGISTRY_H_
#define ATTNPRUNE_CORE_METHODS_REGISTRY_H_

#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/methods/method.h"

namespace attnprune {

// A default that depends on the problem; the parameter's help says how.
inline constexpr double kAutomatic = std::numeric_limits<double>::quiet_NaN();

struct Parameter {
  enum class Kind { kReal, kInteger, kSwitch };  // a switch is 0 or 1

  const char* name;
  Kind kind;
  double default_value;  // kAutomatic: see help
  double min, max;       // both allowed
  const char* help;
};

// A method's parameters with every value known. Made by CreateMethod, which has checked them.
class ParameterValues {
 public:
  explicit ParameterValues(std::map<std::string, double> values) : values_(std::move(values)) {}
  // Value of a declared parameter.
  double Get(const char* name) const { return values_.at(name); }
  int GetInt(const char* name) const { return static_cast<int>(values_.at(name)); }
  bool GetSwitch(const char* name) const { return values_.at(name) != 0; }
  const std::map<std::string, double>& all() const { return values_; }

 private:
  std::map<std::string, double> values_;
};

struct MethodInfo {
  const char* name;
  const char* summary;
  std::vector<Parameter> parameters;
  std::function<std::unique_ptr<Method>(const ParameterValues& values)> create;
};

// In order of name. Each method's file defines its entry.
absl::Span<const MethodInfo> Methods();

// Unset parameters take their defaults. INVALID_ARGUMENT naming `method`, or `method.parameter`
// with its rule and the value.
absl::StatusOr<std::unique_ptr<Method>> CreateMethod(
    absl::string_view name, const std::map<std::string, double>& parameters = {});

// What `parameters` say of one parameter, or its default, kAutomatic among them; absent if there is
// no such method or it has no such parameter. Not checked against its range.
absl::optional<double> ValueOf(absl::string_view method,
                               const std::map<std::string, double>& parameters,
                               absl::string_view parameter);

// Steps that a run takes at most, a refit's included; 0: it takes none.
int StepsAtMost(absl::string_view method, const std::map<std::string, double>& parameters);

// RunOptions::evaluate_every for who has no wish: 10, and in runs of more than 1000 steps a
// hundredth of them, rounded up. An evaluation is a pass over all calibration and held-out batches,
// as dear as several steps of a method that learns from a part: so it stays a fraction of the run.
int DefaultEvaluateEvery(absl::string_view method, const std::map<std::string, double>& parameters);

// "gd", "gd:lambda=0.05,eta=0.005,steps=100" or "wanda+refit:refit_steps=200".
absl::StatusOr<std::unique_ptr<Method>> ParseMethod(absl::string_view text);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_REGISTRY_H_
