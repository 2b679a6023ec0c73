// Every method by name, with its parameters and its costs: the server, its estimates and validation
// read this table, so that a new method is one file and a line in each of
// methods.h, registry.cc and CMakeLists.txt.
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
#include "core/problem/problem_shape.h"

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

// A method's parameters with every value known. ChooseMethod makes and checks them.
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

// What a linear method needs of a map whose outputs' curvature is known (LinearProblem), in blocks
// of so many outputs. As MethodInfo's, without the curvature itself.
struct CoupledCosts {
  std::function<double(absl::Span<const Index> blocks, Index inputs, const ParameterValues& values,
                       int threads)>
      bytes;
  std::function<double(absl::Span<const Index> blocks, Index inputs, const ParameterValues& values)>
      operations;
};

struct MethodInfo {
  const char* name;
  const char* summary;
  std::vector<Parameter> parameters;
  // Whether it draws random numbers. Then its result is a function of RunOptions::seed too, and its
  // states are another seed's no more than another problem's (prepared_problem.h). Otherwise no bit
  // of either depends on the seed.
  bool draws = false;
  // Whether it uses X'X of the calibration tokens (PreparedProblem::CalibrationGram).
  bool uses_moments = false;
  // Whether it prunes linear maps by themselves too (Method::PruneLinear).
  bool linear = false;
  // Whether it uses the curvature of a linear map's outputs where it is known.
  bool reads_curvature = false;
  std::function<std::unique_ptr<Method>(const ParameterValues& values)> create;

  // What a run needs, for estimates. `dense` is how it keeps the dense attention; threads: at
  // least 1. Steps at most; empty: it takes none.
  std::function<int(const ParameterValues& values)> steps = {};
  // Peak of its own memory in bytes, a checkpoint included: without the tokens, their second
  // moments and what the attention loss is evaluated in, which every method of a job shares.
  std::function<double(const ProblemShape& shape, const ParameterValues& values,
                       DenseAttention dense, int threads)>
      bytes;
  // Without reports on the way and without scoring.
  std::function<double(const ProblemShape& shape, const ParameterValues& values,
                       DenseAttention dense)>
      operations;
  // In place of both where the curvature is known; nullopt: it makes no difference to them.
  absl::optional<CoupledCosts> coupled = {};
};

// A method as a text or a job asks for it; not checked.
struct MethodSpec {
  std::string name;
  std::map<std::string, double> parameters;  // unset ones take their defaults
};

// A method of the registry with its parameters.
struct ChosenMethod {
  const MethodInfo* info;
  ParameterValues values;

  std::unique_ptr<Method> Create() const { return info->create(values); }
  // 0: it takes none.
  int StepsAtMost() const { return info->steps == nullptr ? 0 : info->steps(values); }
};

// In order of name. Each method's file defines its entry.
absl::Span<const MethodInfo> Methods();

// INVALID_ARGUMENT naming the field: `method`; the method where it has no such parameter; or
// `method.parameter`, with its rule and the value.
absl::StatusOr<ChosenMethod> ChooseMethod(const MethodSpec& spec);
absl::StatusOr<std::unique_ptr<Method>> CreateMethod(
    const std::string& name, const std::map<std::string, double>& parameters = {});

// RunOptions::evaluate_every where nothing else is asked for, of a method that takes so many steps
// at most: 10, and in runs of more than 1000 steps a hundredth of them, rounded up. An evaluation
// is a pass over all calibration and held-out batches, which costs as much as several steps of a
// method that learns from a part.
int DefaultEvaluateEvery(int steps_at_most);

// "gd", "gd:lambda=0.05,eta=0.005,steps=100" or "wanda+refit:refit_steps=200". INVALID_ARGUMENT
// naming `field`, or `method.parameter` that is given twice; whether there is such a method is not
// looked at.
absl::StatusOr<MethodSpec> ParseMethodSpec(absl::string_view text,
                                           absl::string_view field = "method");
absl::StatusOr<std::unique_ptr<Method>> ParseMethod(absl::string_view text);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_REGISTRY_H_
