// Mask and kept weights searched together under the attention loss.
#ifndef ATTNPRUNE_CORE_METHODS_JOINT_H_
#define ATTNPRUNE_CORE_METHODS_JOINT_H_

#include "core/methods/registry.h"

namespace attnprune {

// The method "joint". Scores and weights move in the same step while the sparsity rises to its
// target; then the mask stands still and the weights settle. The result is the best of the settling
// weights, by the batches that decide.
const MethodInfo& JointInfo();

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_JOINT_H_
