// Straight-through mask search: one score a weight; the mask of the highest scores is used as it
// is, and its gradient moves the scores as if they were the mask (Bengio et al., "Estimating or
// Propagating Gradients Through Stochastic Neurons"; Ramanujan et al., "What's Hidden in a Randomly
// Weighted Neural Network?").
#ifndef ATTNPRUNE_CORE_METHODS_STE_H_
#define ATTNPRUNE_CORE_METHODS_STE_H_

#include "core/methods/registry.h"

namespace attnprune {

// The method "ste". Kept weights stay as they were. Scores start from LogSaliency; the sparsity
// rises to its target over the first part of the steps; in the rest the scores go on moving, ever
// less. The result is the best mask at full sparsity, by the batches that decide.
const MethodInfo& SteInfo();

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_STE_H_
