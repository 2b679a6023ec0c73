// Refit: with a method's mask fixed, moves the kept weights under the attention loss.
#ifndef ATTNPRUNE_CORE_METHODS_REFIT_H_
#define ATTNPRUNE_CORE_METHODS_REFIT_H_

#include "core/methods/registry.h"

namespace attnprune {

// The method "BASE+refit": runs BASE, then Adam on the weights that it kept, starting from its own,
// at a rate that falls to 0. Where BASE pruned the factors of a fused problem, so does this. The
// result has BASE's mask and never a greater error than BASE's result, neither on the calibration
// batches that decide nor on all of them.
//
// Parameters: BASE's, then the refit's own under names that begin with "refit_". A BASE that was
// stopped or ran into numbers that are not finite is not refitted. Stoppable, resumable and
// observed through BASE's steps as well as through its own.
//
// `base` must outlive the result. For the registry's making, by one thread: keeps its texts for
// ever.
MethodInfo WithRefit(const MethodInfo& base);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_REFIT_H_
