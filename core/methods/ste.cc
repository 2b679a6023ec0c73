#include <vector>

#include "core/methods/methods.h"
#include "core/methods/search_method.h"

namespace attnprune {
namespace {

// Matrices of the weights' size at the peak, which is a checkpoint: measured with W of 2048 x 2048.
constexpr double kSteMatrices = 15;

SearchSettings SteSettings(const ParameterValues& values) {
  const int steps = values.GetInt("steps");
  return {.plan = {.steps = steps,
                   .rise = static_cast<int>(values.Get("rise") * steps),
                   .freeze = steps,
                   .score_rate = values.Get("score_rate"),
                   .weight_rate = 0},
          .validation = values.Get("validation"),
          .batches_per_step = values.Get("batch"),
          .by_factors = values.GetSwitch("factors")};
}

std::vector<Parameter> SteParameters() {
  using Kind = Parameter::Kind;
  return {
      {"steps", Kind::kInteger, 1000, 1, 1e6, "Steps."},
      {"rise", Kind::kReal, 0.3, 0, 1,
       "Fraction of the steps over which the sparsity rises to its target."},
      {"score_rate", Kind::kReal, 0.03, 1e-9, 1e3,
       "How far a step moves a score of root-mean-square gradient in its matrix; a score starts as "
       "the logarithm of the weight's saliency. Falls to 0 once the sparsity has risen."},
      BatchParameter("batch"),
      ValidationParameter("validation"),
      FactorsParameter(),
  };
}

}  // namespace

const MethodInfo& SteInfo() {
  static const MethodInfo info = SearchMethodInfo(
      "ste", "Searches the mask by straight-through gradients of the attention loss",
      SteParameters(), SteSettings, kSteMatrices);
  return info;
}

}  // namespace attnprune
