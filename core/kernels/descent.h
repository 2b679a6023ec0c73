// The element-wise half of a step: of gradient descent on a mask (Algorithm 1, lines 15 to 18), and
// of Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization").
//
// All spans have the same length; they are consecutive pieces of matrices and may not overlap.
// Plain functions; callable from any thread on different pieces.
#ifndef ATTNPRUNE_CORE_KERNELS_DESCENT_H_
#define ATTNPRUNE_CORE_KERNELS_DESCENT_H_

#include "absl/types/span.h"

namespace attnprune {

// out = weights o mask.
void Hadamard(absl::Span<const float> weights, absl::Span<const float> mask, absl::Span<float> out);

struct MaskStepSums {
  double gradient_squared = 0;  // of the gradient in the mask
  double mask_squared = 0;
};

// gradient: dL/dW~ on entry, W o dL/dW~ + lambda M on return (Theorem 5.3).
MaskStepSums GradientInMask(absl::Span<const float> weights, absl::Span<const float> mask,
                            float lambda, absl::Span<float> gradient);

struct HeavyBall {
  float inverse_batches;  // 1 / k
  float momentum;
  float eta;     // step length
  bool project;  // clamp the mask to [0, 1]
};

// v <- momentum v + g / k;  next <- M - eta v;  pruned <- weights o next, in one pass over memory.
void HeavyBallStep(const HeavyBall& step, absl::Span<const float> gradient,
                   absl::Span<const float> mask, absl::Span<const float> weights,
                   absl::Span<float> velocity, absl::Span<float> next, absl::Span<float> pruned);

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
// An entry whose gradients have all been 0 stays. Gradients below 1e-18, whose squares are near
// what a float can hold, move less.
void Adam(const AdamStep& step, absl::Span<const float> gradient, absl::Span<float> m,
          absl::Span<float> v, absl::Span<float> x);

// Adam with one second moment v for all entries, which the caller keeps:
//   m <- beta1 m + (1 - beta1) g;  x <- x - rate (m correction1) / (sqrt(v correction2) + 1e-18).
// With v that of the mean of g^2, the largest gradients move furthest, as in plain descent, and the
// scale of all of them does not matter.
void SharedAdam(const AdamStep& step, double v, absl::Span<const float> gradient,
                absl::Span<float> m, absl::Span<float> x);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_DESCENT_H_
