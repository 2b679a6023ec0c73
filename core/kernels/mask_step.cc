#include "core/kernels/mask_step.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace attnprune {
namespace {

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

namespace {

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

void HeavyBallStep(const HeavyBall& step, absl::Span<const float> gradient,
                   absl::Span<const float> mask, absl::Span<const float> weights,
                   absl::Span<float> velocity, absl::Span<float> next, absl::Span<float> pruned) {
  (step.project ? Step<true> : Step<false>)(step, gradient, mask, weights, velocity, next, pruned);
}

}  // namespace attnprune
