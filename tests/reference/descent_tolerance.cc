#include "tests/reference/descent_tolerance.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

#include "tests/reference/float32_bounds.h"

namespace attnprune::reference {
namespace {

const double kUnit = std::ldexp(1.0, -24);  // u

// b of the header, one matrix a mask.
std::vector<Dense> GradientErrors(const AttentionProblem& problem, const DescentOptions& options,
                                  const std::vector<Dense>& masks,
                                  const std::vector<Dense>& gradients) {
  const double k = static_cast<double>(problem.batches.size());
  const Float32Bounds bounds =
      BoundFloat32Errors(problem, Hadamard(masks, problem.weights), InputRounding::kNearest);
  std::vector<Dense> errors;
  for (size_t i = 0; i < masks.size(); ++i) {
    const Dense gradient = gradients[i].cwiseAbs();
    const Dense rounding_of_mask =
        k * kUnit * (masks[i].cwiseAbs() / options.eta + gradient / (k * (1 - options.momentum)));
    errors.push_back(problem.weights[i].cwiseAbs().cwiseProduct(bounds.weight_gradients[i]) +
                     5 * kUnit * gradient + rounding_of_mask);
  }
  return errors;
}

enum class Signs { kNewEachStep, kSameThroughout };

DescentResult PerturbedDescent(const AttentionProblem& problem, DescentOptions options,
                               uint64_t seed, Signs signs) {
  std::mt19937_64 random(seed);
  options.on_gradient = [&](int, const std::vector<Dense>& masks, std::vector<Dense>* gradients) {
    if (signs == Signs::kSameThroughout) random.seed(seed);
    const std::vector<Dense> errors = GradientErrors(problem, options, masks, *gradients);
    for (size_t i = 0; i < errors.size(); ++i) {
      for (Index e = 0; e < errors[i].size(); ++e) {
        const double sign = (random() >> 63) != 0 ? 1.0 : -1.0;
        (*gradients)[i].data()[e] += sign * errors[i].data()[e];
      }
    }
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
    const DescentResult moved = PerturbedDescent(
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
    tolerance.regularization[t] += 4 * kUnit * exact.regularization[t];
  }
  return tolerance;
}

}  // namespace attnprune::reference
