// One block of a run: its maps pruned, stretch by stretch.
#ifndef ATTNPRUNE_SERVER_EXECUTION_BLOCK_RUN_H_
#define ATTNPRUNE_SERVER_EXECUTION_BLOCK_RUN_H_

#include <cstddef>

#include "absl/status/status.h"
#include "core/model/model_pass.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/claimed_job.h"
#include "server/execution/open_run.h"
#include "server/execution/run_progress.h"
#include "server/execution/run_results.h"

namespace attnprune {

// What the pieces of a run work with. All must outlive them.
struct RunTools {
  ClaimedJob& job;
  OpenRun& run;
  RunProgress& progress;
  RunResults& results;
};

// Tells of a pass over tokens, and ends it when the run is to stop.
PassListener ListenerOf(RunTools& tools);

// One thread.
class BlockRun {
 public:
  // pruner must outlive it.
  BlockRun(RunTools& tools, Index block, LayerPruner& pruner)
      : tools_(tools), block_(block), pruner_(pruner) {}

  // Loads the layer and prunes it on `tokens`. Tensors that an earlier attempt has pruned are put
  // back, a stretch of such without a look at its inputs. Each other one is stored as a result.
  // DATA_LOSS names a pruned tensor that is lost.
  absl::Status Prune(const LayerPruner::Tokens& tokens);

 private:
  const BlockCost& cost() const { return tools_.run.plan.costs[static_cast<size_t>(block_)]; }

  absl::Status PruneStretch(const Stretch& stretch, double collect_operations,
                            const LayerPruner::Tokens& tokens);
  bool IsDone(const Stretch& stretch) const;
  absl::Status PruneTensor(const Stretch::Tensor& tensor, double operations);
  absl::Status PutOld(const RunResults::OldTensor& old, const Stretch::Tensor& tensor);

  RunTools& tools_;
  const Index block_;
  LayerPruner& pruner_;
  size_t tensors_done_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_BLOCK_RUN_H_
