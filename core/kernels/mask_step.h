// The element-wise half of one gradient-descent step on a mask (Algorithm 1, lines 15 to 18).
//
// All spans have the same length; they are consecutive pieces of matrices and may not overlap.
// Plain functions; callable from any thread on different pieces.
#ifndef ATTNPRUNE_CORE_KERNELS_MASK_STEP_H_
#define ATTNPRUNE_CORE_KERNELS_MASK_STEP_H_

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

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_MASK_STEP_H_
