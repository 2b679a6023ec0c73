#include <vector>

#include "core/methods/methods.h"
#include "core/methods/search_method.h"

namespace attnprune {
namespace {

// Matrices of the weights' size at the peak, which is a checkpoint: measured with W of 2048 x 2048.
constexpr double kJointMatrices = 20;

SearchSettings JointSettings(const ParameterValues& values) {
  const int steps = values.GetInt("steps");
  const int rise = static_cast<int>(values.Get("rise") * steps);
  return {.plan = {.steps = steps,
                   .rise = rise,
                   .freeze = rise,
                   .score_rate = values.Get("score_rate"),
                   .weight_rate = values.Get("weight_rate")},
          .validation = values.Get("validation"),
          .batches_per_step = values.Get("batch"),
          .by_factors = values.GetSwitch("factors")};
}

std::vector<Parameter> JointParameters() {
  using Kind = Parameter::Kind;
  return {
      {"steps", Kind::kInteger, 2000, 1, 1e6, "Steps."},
      {"rise", Kind::kReal, 0.6, 0, 1,
       "Fraction of the steps over which the sparsity rises to its target; then the mask stands "
       "still and the weights settle. With 0 the mask is the starting one."},
      {"score_rate", Kind::kReal, 0.05, 1e-9, 1e3,
       "How far a step moves a score of root-mean-square gradient in its matrix; a score starts as "
       "the logarithm of the weight's saliency."},
      {"weight_rate", Kind::kReal, 0.03, 1e-9, 10,
       "How far a step moves a weight, in units of 2 mean |W| of its matrix; falls to 0 while the "
       "weights settle."},
      BatchParameter("batch"),
      ValidationParameter("validation"),
      FactorsParameter(),
  };
}

}  // namespace

const MethodInfo& JointInfo() {
  static const MethodInfo info =
      SearchMethodInfo("joint", "Searches mask and kept weights together under the attention loss",
                       JointParameters(), JointSettings, kJointMatrices);
  return info;
}

}  // namespace attnprune
