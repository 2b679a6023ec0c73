// The stages of a run that train what pruning has kept: of a block, and of the whole model.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_TRAINING_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_TRAINING_H_

#include "absl/status/status.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/block_run.h"

namespace attnprune {

// Each goes on from what an earlier attempt saved, stores one result, and the new weights where any
// are better than the start. DATA_LOSS names a pruned tensor, or a curvature, that is lost;
// OUT_OF_RANGE: a weight has become too large for its tensor's dtype.

// Trains the block that the pruner holds as it was pruned, on these states before it. The pruner
// holds none then.
absl::Status ReconstructBlock(RunTools& tools, Index block, LayerPruner& pruner,
                              const TokenStates& inputs, const TokenStates& dense);

// Trains all pruned tensors, which are in tools.results.
absl::Status DistillModel(RunTools& tools);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_TRAINING_H_
