#include "tests/reference/algorithm1.h"

#include <algorithm>
#include <numeric>

namespace attnprune::reference {

DescentResult GradientDescent(const AttentionProblem& problem, const DescentOptions& options) {
  const double k = static_cast<double>(problem.batches.size());
  DescentResult result;
  std::vector<Dense> velocity;
  for (const Dense& w : problem.weights) {
    result.masks.push_back(Dense::Ones(w.rows(), w.cols()));
    velocity.push_back(Dense::Zero(w.rows(), w.cols()));
  }
  for (int step = 1; step <= options.steps; ++step) {
    result.attention_loss.push_back(
        AttentionLoss(problem, Hadamard(result.masks, problem.weights)));
    result.regularization.push_back(Regularization(result.masks, options.lambda));
    std::vector<Dense> gradients = MaskGradients(problem, result.masks, options.lambda);
    if (options.on_gradient) options.on_gradient(step, result.masks, &gradients);
    for (size_t i = 0; i < velocity.size(); ++i) {
      velocity[i] = options.momentum * velocity[i] + gradients[i] / k;
      result.masks[i] -= options.eta * velocity[i];
      if (options.projection == Projection::kUnitInterval) {
        result.masks[i] = result.masks[i].cwiseMax(0.0).cwiseMin(1.0);
      }
    }
  }
  return result;
}

namespace {

// Sets the `count` smallest of the listed entries to 0; the list is in order of flat index.
void PruneSmallest(const Dense& scores, std::vector<Index> entries, Index count, Dense* binary) {
  std::stable_sort(entries.begin(), entries.end(),
                   [&](Index a, Index b) { return scores.data()[a] < scores.data()[b]; });
  for (Index e = 0; e < count; ++e) binary->data()[entries[static_cast<size_t>(e)]] = 0;
}

}  // namespace

Dense Binarize(const Dense& mask, Index count) {
  Dense binary = Dense::Ones(mask.rows(), mask.cols());
  std::vector<Index> all(static_cast<size_t>(mask.size()));
  std::iota(all.begin(), all.end(), Index{0});
  PruneSmallest(mask, all, count, &binary);
  return binary;
}

Dense BinarizeGroups(const Dense& mask, Index n, Index m, Inputs inputs) {
  Dense binary = Dense::Ones(mask.rows(), mask.cols());
  const Index outputs = inputs == Inputs::kRows ? mask.cols() : mask.rows();
  const Index length = inputs == Inputs::kRows ? mask.rows() : mask.cols();
  for (Index output = 0; output < outputs; ++output) {
    for (Index begin = 0; begin < length; begin += m) {
      std::vector<Index> group;
      for (Index input = begin; input < begin + m; ++input) {
        group.push_back(inputs == Inputs::kRows ? input * mask.cols() + output
                                                : output * mask.cols() + input);
      }
      PruneSmallest(mask, group, n, &binary);
    }
  }
  return binary;
}

}  // namespace attnprune::reference
