#include "tests/reference/descent_tolerance.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

#include "tests/reference/float32_bounds.h"

namespace attnprune::reference {
namespace {

const double kRoundoff = std::ldexp(1.0, -24);  // u

// k of the header: over features, tokens of all batches (dW) or outputs of a head.
double LongestSum(const AttentionProblem& problem) {
  Index tokens = 0;
  for (const Dense& x : problem.batches) tokens += x.rows();
  const Index outputs = problem.fused() ? 0 : problem.head_dim();
  return static_cast<double>(std::max({tokens, problem.batches[0].cols(), outputs}));
}

// Moves every entry by `relative` times its size, up or down.
class Mover {
 public:
  Mover(double relative, uint64_t seed) : relative_(relative), random_(seed) {}

  template <typename DenseType>
  void Move(DenseType* values) {
    for (Index e = 0; e < values->size(); ++e) {
      values->data()[e] *= (random_() >> 63) != 0 ? 1 + relative_ : 1 - relative_;
    }
  }
  void MoveAll(std::vector<Dense>* values) {
    for (Dense& v : *values) Move(&v);
  }

 private:
  const double relative_;
  std::mt19937_64 random_;
};

// The gradients in the masks from moved inputs.
std::vector<Dense> MovedGradients(const AttentionProblem& problem, const DescentOptions& options,
                                  const std::vector<Dense>& masks, uint64_t seed) {
  Mover inputs(4 * std::sqrt(LongestSum(problem)) * kRoundoff, seed),
      rounding(2 * kRoundoff, ~seed);
  AttentionProblem moved = problem;
  std::vector<Dense> pruned = Hadamard(masks, problem.weights);
  inputs.MoveAll(&moved.batches);
  inputs.MoveAll(&moved.weights);
  inputs.MoveAll(&pruned);
  inputs.Move(&moved.b_q);
  inputs.Move(&moved.b_k);
  std::vector<Dense> gradients = WeightGradients(moved, pruned);
  const double k = static_cast<double>(problem.batches.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    Dense mask = masks[i];
    rounding.Move(&mask);  // M' = M - eta g / k: an error of M is one of g, times k / eta
    gradients[i] = moved.weights[i].cwiseProduct(gradients[i]) + options.lambda * mask +
                   k / options.eta * (masks[i] - mask);
  }
  return gradients;
}

enum class Signs { kNewEachStep, kSameThroughout };

DescentResult MovedDescent(const AttentionProblem& problem, DescentOptions options, uint64_t seed,
                           Signs signs) {
  options.on_gradient = [&](int step, const std::vector<Dense>& masks,
                            std::vector<Dense>* gradients) {
    const uint64_t step_seed =
        signs == Signs::kSameThroughout ? seed : seed + 1000 * static_cast<uint64_t>(step);
    *gradients = MovedGradients(problem, options, masks, step_seed);
  };
  return GradientDescent(problem, options);
}

void Widen(const std::vector<double>& a, const std::vector<double>& b,
           std::vector<double>* tolerance) {
  for (size_t t = 0; t < a.size(); ++t) {
    (*tolerance)[t] = std::max((*tolerance)[t], 2 * std::abs(a[t] - b[t]));
  }
}

}  // namespace

DescentTolerance StudyFloat32Descent(const AttentionProblem& problem,
                                     const DescentOptions& options) {
  std::vector<double> loss_rounding;
  DescentOptions watched = options;
  watched.on_gradient = [&](int, const std::vector<Dense>& masks, std::vector<Dense>*) {
    loss_rounding.push_back(
        BoundFloat32Errors(problem, Hadamard(masks, problem.weights), InputRounding::kNearest)
            .attention_loss);
  };
  const DescentResult exact = GradientDescent(problem, watched);

  const size_t steps = exact.attention_loss.size();
  DescentTolerance tolerance = {std::vector<double>(exact.masks.size(), 0.0),
                                std::vector<double>(steps, 0.0), std::vector<double>(steps, 0.0)};
  for (uint64_t seed = 1; seed <= 16; ++seed) {
    const DescentResult moved = MovedDescent(
        problem, options, seed, seed <= 8 ? Signs::kNewEachStep : Signs::kSameThroughout);
    for (size_t i = 0; i < exact.masks.size(); ++i) {
      const double deviation = (moved.masks[i] - exact.masks[i]).cwiseAbs().maxCoeff();
      tolerance.masks[i] = std::max(tolerance.masks[i], 2 * deviation);
    }
    Widen(moved.attention_loss, exact.attention_loss, &tolerance.attention_loss);
    Widen(moved.regularization, exact.regularization, &tolerance.regularization);
  }
  for (size_t t = 0; t < steps; ++t) {
    tolerance.attention_loss[t] += loss_rounding[t];
    tolerance.regularization[t] += 4 * kRoundoff * exact.regularization[t];
  }
  return tolerance;
}

}  // namespace attnprune::reference
