// Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization"), element by element.
//
// Plain functions; callable from any thread on different pieces.
#ifndef ATTNPRUNE_CORE_KERNELS_ADAM_H_
#define ATTNPRUNE_CORE_KERNELS_ADAM_H_

#include "absl/types/span.h"

namespace attnprune {

// One step's constants. The rate is in units of the parameters: an entry whose gradient does not
// change moves by `rate` a step, whatever the gradient's size.
struct AdamStep {
  float rate;
  float beta1, beta2;              // decay of the first and of the second moment, in [0, 1)
  float correction1, correction2;  // 1 / (1 - beta^t) at step t = 1, 2, ...
};
AdamStep MakeAdamStep(double rate, double beta1, double beta2, int t);

// m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
// x <- x - rate (m correction1) / (sqrt(v correction2) + 1e-18).
// All spans have the same length and do not overlap. An entry whose gradients have all been 0
// stays. Gradients below 1e-18, whose squares are near what a float can hold, move less.
void Adam(const AdamStep& step, absl::Span<const float> gradient, absl::Span<float> m,
          absl::Span<float> v, absl::Span<float> x);

// Adam with one second moment v for all entries, which the caller keeps:
//   m <- beta1 m + (1 - beta1) g;  x <- x - rate (m correction1) / (sqrt(v correction2) + 1e-18).
// With v that of the mean of g^2, the largest gradients move furthest, as in plain descent, and the
// scale of all of them does not matter.
void SharedAdam(const AdamStep& step, double v, absl::Span<const float> gradient,
                absl::Span<float> m, absl::Span<float> x);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ADAM_H_
