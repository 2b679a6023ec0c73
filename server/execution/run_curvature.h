// The curvature of a run's model: taken before its blocks, in the blob store until each is pruned.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_CURVATURE_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_CURVATURE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/run.pb.h"
#include "core/model/model_weights.h"
#include "core/sequential/curvature.h"
#include "server/execution/block_run.h"

namespace attnprune {

// Of a run that has one: takes it and stores it as a result, unless an earlier attempt has.
absl::Status TakeCurvature(ClaimedJob& job, OpenRun& run, RunResults& results);

// What TakeCurvature stored of the block. layer: its weights. DATA_LOSS: it is gone or damaged.
absl::StatusOr<LayerCurvature> ReadCurvature(RunTools& tools, Index block,
                                             const LayerWeights& layer);

// Adds what the blocks behind this one still need to the result that ends it.
void KeepCurvature(const RunTools& tools, Index block, v1::RunResult& result);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_CURVATURE_H_
