#include "server/execution/run_allocation.h"

#include <vector>

#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/sequential/allocation.h"
#include "server/execution/run_plan.h"
#include "server/execution/run_progress.h"
#include "server/execution/run_states.h"

namespace attnprune {

absl::Status AllocateSparsities(ClaimedJob& job, OpenRun& run, RunResults& results) {
  if (!results.block_sparsities().empty()) return absl::OkStatus();
  RunPace pace;
  RunProgress progress(job, run.plan, pace);
  progress.Skip(run.plan.sample_operations);
  progress.Begin(v1::ALLOCATING, 0, run.plan.allocate_operations, {});
  const RunStates::Kinds kinds = {
      .calibration = true, .beside = false, .dense = false, .pruned = false};
  ATTNPRUNE_ASSIGN_OR_RETURN(
      RunStates states,
      RunStates::Begin(*run.forward, run.rows, kinds, PassOptionsOf(run.plan, job.options())));
  const OwlChoice& owl = *run.spec.owl();
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<double> shares,
                             OutlierShares(*run.forward, run.pool, owl.outlier,
                                           states.calibration(), ListenerOf(job, progress)));
  const std::vector<double> sparsities =
      OwlSparsities(run.spec.choice.sparsity.fraction, owl.limit, shares);
  ATTNPRUNE_RETURN_IF_ERROR(CheckBlockSparsities(sparsities));
  progress.End();
  v1::RunResult result;
  result.set_block(static_cast<int>(run.plan.blocks.size()));
  result.mutable_block_sparsities()->Assign(sparsities.begin(), sparsities.end());
  ATTNPRUNE_RETURN_IF_ERROR(results.Store(result, {}, absl::nullopt));
  run.plan.block_sparsities = sparsities;
  return absl::OkStatus();
}

void TakeUpAllocation(RunTools& tools) {
  const std::vector<double>& stored = tools.results.block_sparsities();
  if (!stored.empty()) tools.run.plan.block_sparsities = stored;
  tools.run.plan.tensor_sparsities = tools.results.tensor_sparsities();
  const RunPlan& plan = tools.run.plan;
  tools.progress.Skip(plan.sample_operations + plan.allocate_operations + plan.measure_operations);
}

}  // namespace attnprune
