// One block of a run: its maps pruned, stretch by stretch.
#ifndef ATTNPRUNE_SERVER_EXECUTION_BLOCK_RUN_H_
#define ATTNPRUNE_SERVER_EXECUTION_BLOCK_RUN_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/run.pb.h"
#include "core/model/model_pass.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/claimed_job.h"
#include "server/execution/open_run.h"
#include "server/execution/run_checkpoint.h"
#include "server/execution/run_progress.h"
#include "server/execution/run_results.h"
#include "server/execution/run_spec.h"

namespace attnprune {

// What the pieces of a run work with. All must outlive them.
struct RunTools {
  ClaimedJob& job;
  OpenRun& run;
  RunProgress& progress;
  RunResults& results;
  RunCheckpoint& checkpoint;
};

// Tells of a pass over tokens, and ends it when the run is to stop.
PassListener ListenerOf(ClaimedJob& job, RunProgress& progress);

// Takes calibration rows through the block as it is loaded: from where an earlier attempt had saved
// them, and saving them on the way. CANCELLED: the run is to stop.
absl::Status AdvanceCalibration(RunTools& tools, Index block, LayerPruner& pruner,
                                const TokenStates& states);

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
  // Loads the layer as it was pruned, and trained. dense_share: LayerPruner::Load's. DATA_LOSS as
  // above.
  absl::Status PutAllOld(double dense_share = 0);

 private:
  // A method's steps on their way to the watchers and into checkpoints.
  class StepObserver;

  const std::vector<Stretch>& stretches() const {
    return tools_.run.plan.blocks[static_cast<size_t>(block_)];
  }
  const BlockCost& cost() const { return tools_.run.plan.costs[static_cast<size_t>(block_)]; }

  absl::Status PruneStretch(size_t number, const LayerPruner::Tokens& tokens);
  absl::Status Collect(size_t number, const LayerPruner::Tokens& tokens);
  bool IsDone(const Stretch::Piece& piece) const;
  absl::Status PrunePiece(size_t stretch, const Stretch::Piece& piece, double operations);
  // Pruned and stored.
  absl::StatusOr<std::vector<v1::PrunedTensor>> SolveTensor(const Stretch::Tensor& tensor,
                                                            const RunChoice& choice,
                                                            StepObserver& observer);
  absl::StatusOr<std::vector<v1::PrunedTensor>> SolveAttention(const Stretch::Piece& piece,
                                                               const RunChoice& choice,
                                                               StepObserver& observer);
  // Described, with its weights and its mask stored.
  absl::StatusOr<v1::PrunedTensor> Stored(const Stretch::Tensor& tensor,
                                          const PrunedWeights& pruned);
  RunOptions Options(const Stretch::Tensor& first);
  absl::Status PutOld(const Stretch::Piece& piece);

  RunTools& tools_;
  const Index block_;
  LayerPruner& pruner_;
  size_t pieces_done_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_BLOCK_RUN_H_
