// What a run consists of: which tensors are pruned how, in which order, and what each piece costs.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_PLAN_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_PLAN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/model_pass.h"
#include "core/model/model_weights.h"
#include "core/objective/attention_objective.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/job_runner.h"
#include "server/execution/run_choice.h"
#include "server/execution/run_spec.h"

namespace attnprune {

// "q", "k", "v" …
std::vector<std::string> RolesOf(absl::Span<const LinearMap> maps);

// Operations of the pieces of a block.
struct BlockCost {
  std::vector<double> collect;  // by stretch; the only one in INDEPENDENT order
  std::vector<double> prune;    // by Stretch::Piece, over all stretches
  double reconstruct = 0;       // of the training of what is kept of the block
  // Of hidden states: through the block once it is pruned; in INDEPENDENT order through the dense
  // one, before.
  double advance = 0;
  double score = 0;  // INDEPENDENT: of the held-out rows through both, at the end

  double OfPieces(int count) const;  // to prune the first `count` of the block
  double OfPart() const;             // all but `score`
  double All() const { return OfPart() + score; }
};

// How a run keeps to its memory budget. No bit of a result depends on it.
struct RunPlaces {
  bool spilled = false;                              // hidden states are in temporary files
  DenseAttention attention = DenseAttention::kKeep;  // kRecompute: its tokens are in a file, too
  bool keeps_values = false;                         // LayerPlaces's; where hidden states are
};

// Of the server that a run is for.
struct RunMachine {
  int64_t memory_budget = 0;  // bytes that it gives a job; 0: any
  int threads = 1;            // that work on it
};

struct RunPlan {
  SharedSparsities Sparsities(Index block) const;

  std::vector<std::vector<Stretch>> blocks;
  // By block; empty: the run's, or, of an OWL allocation, not known yet.
  std::vector<double> block_sparsities;
  // By a tensor's name, of a by_loss allocation once they are known.
  std::map<std::string, double> tensor_sparsities;
  int results = 0;  // RunResults in all: one a piece, one a block, one each for
                    // the losses, sampled rows, OWL, the curvature, the distillation and each
                    // block's reconstruction
  std::vector<BlockCost> costs;
  double sample_operations = 0;    // of rows that the model writes
  double allocate_operations = 0;  // of OWL's pass
  double measure_operations = 0;   // of the curvature's passes
  double distill_operations = 0;   // of the training of what is kept
  double score_operations = 0;     // of the losses
  double operations = 0;           // of everything
  // The first of these that the budget has room for, or the last: everything in memory; hidden
  // states in files; dense attention rebuilt too; the attention's tokens in a file too.
  RunPlaces places;
  double memory_bytes = 0;  // at the peak; mapped tensors and files not counted
  double disk_bytes = 0;    // at the peak: hidden states twice, pruned tensors, masks, and files
};

// Of the rows as HoldOutRows leaves them, without sampled ones. INVALID_ARGUMENT names the rule
// that matches no map, or the sparsity that does not fit a tensor's inputs; run.rules where nothing
// is left to prune; run.distillation or run.reconstruction where a single row is left to it;
// run.attention_method where a block's q and k cannot be pruned together; run.allocation where a
// block's sparsity would not be in [0, 1). The plan points into `model`.
absl::StatusOr<RunPlan> MakePlan(const RunSpec& run, const ModelWeights& model,
                                 absl::Span<const Index> calibration,
                                 absl::Span<const Index> held_out, const RunMachine& machine);

// Sparsities that an allocation gives the blocks. INVALID_ARGUMENT naming run.allocation unless
// every one is in [0, 1).
absl::Status CheckBlockSparsities(absl::Span<const double> block_sparsities);

// How hidden states are held by a server of these options.
PassOptions PassOptionsOf(const RunPlan& plan, const JobRunnerOptions& options);
// How a block's intermediate results are.
LayerPlaces LayerPlacesOf(const RunPlan& plan, const JobRunnerOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_PLAN_H_
