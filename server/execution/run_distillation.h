// The end of a run with a distillation: what is kept of the whole model is trained.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_DISTILLATION_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_DISTILLATION_H_

#include "absl/status/status.h"
#include "server/execution/block_run.h"

namespace attnprune {

// Trains the pruned tensors, all of which are in tools.results, and stores what they become as one
// result. Goes on from what an earlier attempt saved. DATA_LOSS names a pruned tensor that is lost;
// OUT_OF_RANGE: a weight has become too large for its tensor's dtype.
absl::Status TrainKeptWeights(RunTools& tools);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_DISTILLATION_H_
