#include "core/kernels/descent.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace attnprune {
namespace {

constexpr float kSmallestRoot = 1e-18f;  // of Adam's second moments

// Sums of squares in float64, in a fixed number of columns so that the loop vectorises and the
// grouping does not depend on memory.
class SquareSum {
 public:
  void Add(size_t i, float value) {
    sums_[i % kColumns] += static_cast<double>(value) * static_cast<double>(value);
  }
  double Total() const {
    double total = 0;
    for (double sum : sums_) total += sum;
    return total;
  }

 private:
  static constexpr size_t kColumns = 8;
  std::array<double, kColumns> sums_{};
};

template <bool kProject>
void Step(const HeavyBall& step, absl::Span<const float> gradient, absl::Span<const float> mask,
          absl::Span<const float> weights, absl::Span<float> velocity, absl::Span<float> next,
          absl::Span<float> pruned) {
  for (size_t i = 0; i < next.size(); ++i) {
    velocity[i] = step.momentum * velocity[i] + gradient[i] * step.inverse_batches;
    const float moved = mask[i] - step.eta * velocity[i];
    next[i] = kProject ? std::clamp(moved, 0.0f, 1.0f) : moved;
    pruned[i] = weights[i] * next[i];
  }
}

}  // namespace

void Hadamard(absl::Span<const float> weights, absl::Span<const float> mask,
              absl::Span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = weights[i] * mask[i];
}

MaskStepSums GradientInMask(absl::Span<const float> weights, absl::Span<const float> mask,
                            float lambda, absl::Span<float> gradient) {
  SquareSum gradient_squared, mask_squared;
  for (size_t i = 0; i < gradient.size(); ++i) {
    gradient[i] = weights[i] * gradient[i] + lambda * mask[i];
    gradient_squared.Add(i, gradient[i]);
    mask_squared.Add(i, mask[i]);
  }
  return {gradient_squared.Total(), mask_squared.Total()};
}

void HeavyBallStep(const HeavyBall& step, absl::Span<const float> gradient,
                   absl::Span<const float> mask, absl::Span<const float> weights,
                   absl::Span<float> velocity, absl::Span<float> next, absl::Span<float> pruned) {
  (step.project ? Step<true> : Step<false>)(step, gradient, mask, weights, velocity, next, pruned);
}

AdamStep MakeAdamStep(double rate, double beta1, double beta2, int t) {
  return {.rate = static_cast<float>(rate),
          .beta1 = static_cast<float>(beta1),
          .beta2 = static_cast<float>(beta2),
          .correction1 = static_cast<float>(1 / (1 - std::pow(beta1, t))),
          .correction2 = static_cast<float>(1 / (1 - std::pow(beta2, t)))};
}

void Adam(const AdamStep& step, absl::Span<const float> gradient, absl::Span<float> m,
          absl::Span<float> v, absl::Span<float> x) {
  for (size_t i = 0; i < x.size(); ++i) {
    const float g = gradient[i];
    m[i] = step.beta1 * m[i] + (1 - step.beta1) * g;
    v[i] = step.beta2 * v[i] + (1 - step.beta2) * g * g;
    x[i] -= step.rate * (m[i] * step.correction1) /
            (std::sqrt(v[i] * step.correction2) + kSmallestRoot);
  }
}

void SharedAdam(const AdamStep& step, double v, absl::Span<const float> gradient,
                absl::Span<float> m, absl::Span<float> x) {
  const auto size = static_cast<float>(std::sqrt(v * static_cast<double>(step.correction2)));
  const float factor = step.rate * step.correction1 / (size + kSmallestRoot);
  for (size_t i = 0; i < x.size(); ++i) {
    m[i] = step.beta1 * m[i] + (1 - step.beta1) * gradient[i];
    x[i] -= factor * m[i];
  }
}

}  // namespace attnprune
