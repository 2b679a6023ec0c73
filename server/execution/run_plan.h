// What a run consists of: which tensors are pruned how, in which order, and what each piece costs.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_PLAN_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/model_pass.h"
#include "core/model/model_weights.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/job_runner.h"
#include "server/execution/run_spec.h"

namespace attnprune {

// Of the first rule that matches, or the run's; nullptr: it stays dense. `run` must outlive it.
const RunChoice* ChoiceOf(const RunSpec& run, const TensorMaps& tensor);

// "q", "k", "v" …
std::vector<std::string> RolesOf(absl::Span<const LinearMap> maps);

// Operations of the pieces of a block.
struct BlockCost {
  std::vector<double> collect;  // by stretch; the only one in INDEPENDENT order
  std::vector<double> prune;    // by tensor, over all stretches
  // Of hidden states: through the block once it is pruned; in INDEPENDENT order through the dense
  // one, before.
  double advance = 0;
  double score = 0;  // INDEPENDENT: of the held-out rows through both, at the end

  double OfTensors(int count) const;  // to prune the first `count` of the block
  double OfPart() const;              // all but `score`
  double All() const { return OfPart() + score; }
};

struct RunPlan {
  std::vector<std::vector<Stretch>> blocks;
  int results = 0;  // RunResults in all: one a tensor, one a block, one for the losses
  std::vector<BlockCost> costs;
  double score_operations = 0;  // of the losses
  double operations = 0;        // of everything
  double memory_bytes = 0;      // at the peak, hidden states in memory; mapped tensors not counted
  double hidden_bytes = 0;      // of it, of the hidden states
  double disk_bytes = 0;        // at the peak: hidden states twice, pruned tensors and masks
};

// Of the rows as HoldOutRows leaves them. INVALID_ARGUMENT names the rule that matches no map, or
// the sparsity that does not fit a tensor's inputs; and run.rules where nothing is left to prune.
// The plan points into `model`.
absl::StatusOr<RunPlan> MakePlan(const RunSpec& run, const ModelWeights& model,
                                 absl::Span<const Index> calibration,
                                 absl::Span<const Index> held_out);

// What a run takes of a server that gives a job `budget` bytes of memory; 0: any.
struct RunNeeds {
  bool spilled = false;  // hidden states are in temporary files
  int64_t memory_bytes = 0, disk_bytes = 0;
};
RunNeeds NeedsWithin(const RunPlan& plan, int64_t budget);

// How hidden states are held by a server of these options.
PassOptions PassOptionsOf(const RunPlan& plan, const JobRunnerOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_PLAN_H_
