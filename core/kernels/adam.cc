#include "core/kernels/adam.h"

#include <cmath>
#include <cstddef>

namespace attnprune {
namespace {

constexpr float kSmallest = 1e-18f;

}  // namespace

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
    x[i] -=
        step.rate * (m[i] * step.correction1) / (std::sqrt(v[i] * step.correction2) + kSmallest);
  }
}

void SharedAdam(const AdamStep& step, double v, absl::Span<const float> gradient,
                absl::Span<float> m, absl::Span<float> x) {
  const auto size = static_cast<float>(std::sqrt(v * static_cast<double>(step.correction2)));
  const float factor = step.rate * step.correction1 / (size + kSmallest);
  for (size_t i = 0; i < x.size(); ++i) {
    m[i] = step.beta1 * m[i] + (1 - step.beta1) * gradient[i];
    x[i] -= factor * m[i];
  }
}

}  // namespace attnprune
