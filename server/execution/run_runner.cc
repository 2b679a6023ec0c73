#include "server/execution/run_runner.h"

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "core/model/forward.h"
#include "core/model/model_pass.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/block_run.h"
#include "server/execution/claimed_job.h"
#include "server/execution/open_run.h"
#include "server/execution/run_allocation.h"
#include "server/execution/run_checkpoint.h"
#include "server/execution/run_curvature.h"
#include "server/execution/run_parts.h"
#include "server/execution/run_plan.h"
#include "server/execution/run_progress.h"
#include "server/execution/run_results.h"
#include "server/execution/run_sampling.h"
#include "server/execution/run_spec.h"
#include "server/execution/run_states.h"
#include "server/execution/run_training.h"

namespace attnprune {
namespace {

class ModelRun {
 public:
  ModelRun(const JobRecord& record, JobStore* jobs, BlobStore* tensors,
           const JobRunnerOptions& options, StopSignal* stop)
      : job_(record, jobs, tensors, options, stop),
        results_(absl::in_place, job_, static_cast<int>(record.results.size())) {}

  void Run();

 private:
  bool HasEnded();
  absl::Status RunAll();
  absl::Status CheckDisk(const OpenRun& run);
  absl::Status PruneInParts(OpenRun& run, RunPace& pace);
  absl::Status ReadResults();
  absl::StatusOr<RunStates> BeginStates(const OpenRun& run);

  absl::Status RunBlocks(RunTools& tools, RunStates& states);
  absl::StatusOr<bool> SkipBlock(RunTools& tools, Index block, RunStates& states);
  absl::Status RunBlock(RunTools& tools, Index block, LayerPruner& pruner, RunStates& states);
  absl::Status Reconstruct(RunTools& tools, Index block, LayerPruner& pruner, RunStates& states);
  absl::Status EndBlock(RunTools& tools, Index block, LayerPruner& pruner, RunStates& states);
  absl::Status Distill(RunTools& tools, RunStates& states);
  absl::Status AdvanceDistilled(RunTools& tools, RunStates& states);
  absl::Status Score(RunTools& tools, RunStates& states);

  ClaimedJob job_;
  absl::optional<RunResults> results_;  // never empty
};

void ModelRun::Run() {
  absl::Status status;
  try {
    status = RunAll();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("the run needs more memory than the server has");
  }
  const JobRunnerOptions& options = job_.options();
  const bool drains = !status.ok() && job_.stop()->reason() == StopReason::kDraining;
  if (drains && options.await_helpers) options.await_helpers();
  // A run that ends undone leaves nothing behind that only its checkpoint names. One whose place is
  // away goes back to the queue, and must not wait for it here.
  RunCheckpoint saved(job_);
  const bool undone = !status.ok() && !drains && !absl::IsUnavailable(status) &&
                      job_.stop()->reason() != StopReason::kLapsed;
  if (undone) saved.Read();
  job_.End(status, [] { return absl::OkStatus(); });
  if (undone && HasEnded()) saved.Abandon();
}

// By this claim.
bool ModelRun::HasEnded() {
  const absl::StatusOr<JobRecord> now = job_.jobs()->Get(job_.claim().id);
  return now.ok() && IsTerminal(now->state) && now->fence == job_.claim().fence;
}

absl::Status ModelRun::RunAll() {
  v1::Run message;
  if (!message.ParseFromString(job_.record().spec)) {
    return absl::DataLossError("the stored run is not a message of the API");
  }
  ATTNPRUNE_RETURN_IF_ERROR(results_->Read(job_.record().results));
  const int done = results_->old_count();
  TellReading(job_, static_cast<double>(done) / std::max(message.results_total(), 1));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<OpenRun> run, OpenRun::Open(job_, message));
  if (done == run->plan.results) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(CheckDisk(*run));
  if (run->spec.sampled.has_value()) {
    ATTNPRUNE_RETURN_IF_ERROR(AddSampledRows(job_, *run, *results_));
  }
  if (run->spec.owl() != nullptr) {
    ATTNPRUNE_RETURN_IF_ERROR(AllocateSparsities(job_, *run, *results_));
  }
  if (run->spec.curvature.has_value()) {
    ATTNPRUNE_RETURN_IF_ERROR(TakeCurvature(job_, *run, *results_));
  }
  RunPace pace;
  if (run->spec.independent) ATTNPRUNE_RETURN_IF_ERROR(PruneInParts(*run, pace));
  RunProgress progress(job_, run->plan, pace);
  RunCheckpoint checkpoint(job_);
  checkpoint.Read();
  RunTools tools{job_, *run, progress, *results_, checkpoint};
  TakeUpAllocation(tools);
  ATTNPRUNE_ASSIGN_OR_RETURN(RunStates states, BeginStates(*run));
  ATTNPRUNE_RETURN_IF_ERROR(RunBlocks(tools, states));
  if (run->spec.distillation.has_value()) ATTNPRUNE_RETURN_IF_ERROR(Distill(tools, states));
  return run->rows.held_out.lengths.empty() ? absl::OkStatus() : Score(tools, states);
}

// --- Where it begins ---

// For what an earlier attempt has not stored yet.
absl::Status ModelRun::CheckDisk(const OpenRun& run) {
  const int64_t left =
      static_cast<int64_t>(run.plan.disk_bytes) - StoredBytes(results_->old(), *job_.tensors());
  return CheckDiskRoom(job_.options().spill_folder, std::max<int64_t>(left, 0),
                       job_.options().min_free_disk_bytes, "the server's disk");
}

absl::Status ModelRun::PruneInParts(OpenRun& run, RunPace& pace) {
  ATTNPRUNE_RETURN_IF_ERROR(RunAllParts(job_, run, pace));
  return ReadResults();
}

// Those of this attempt and of other workers too.
absl::Status ModelRun::ReadResults() {
  JobRecord now;
  ATTNPRUNE_RETURN_IF_ERROR(job_.Write([&]() -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(now, job_.jobs()->Get(job_.claim().id));
    return absl::OkStatus();
  }));
  results_.emplace(job_, static_cast<int>(now.results.size()));
  return results_->Read(now.results);
}

// In independent order every block is pruned by now, and only the held-out rows are left.
absl::StatusOr<RunStates> ModelRun::BeginStates(const OpenRun& run) {
  const RunStates::Kinds kinds = {.calibration = !run.spec.independent,
                                  .beside = run.spec.dense_target > 0};
  return RunStates::Begin(*run.forward, run.rows, kinds, PassOptionsOf(run.plan, job_.options()));
}

// --- Blocks ---

absl::Status ModelRun::RunBlocks(RunTools& tools, RunStates& states) {
  if (tools.run.spec.independent) {
    for (const BlockCost& cost : tools.run.plan.costs) tools.progress.Skip(cost.OfPart());
  }
  LayerPruner pruner(*tools.run.forward, tools.run.pool,
                     LayerPlacesOf(tools.run.plan, job_.options()));
  const auto blocks = static_cast<Index>(tools.run.plan.blocks.size());
  for (Index block = 0; block < blocks; ++block) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool done, SkipBlock(tools, block, states));
    if (done) continue;
    const absl::Status status = RunBlock(tools, block, pruner, states);
    if (!status.ok()) {
      return absl::IsCancelled(status) ? status : Annotate(status, absl::StrCat("block ", block));
    }
  }
  return absl::OkStatus();
}

// Whether an earlier attempt has done the block: then the states are those behind it.
absl::StatusOr<bool> ModelRun::SkipBlock(RunTools& tools, Index block, RunStates& states) {
  const v1::RunResult* const done = results_->FindBlock(block);
  if (done == nullptr) return false;
  const BlockCost& cost = tools.run.plan.costs[static_cast<size_t>(block)];
  tools.progress.Skip(tools.run.spec.independent ? cost.score : cost.All());
  if (results_->FindBlock(block + 1) == nullptr && done->states_size() > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(states.Load(job_, *done));
  }
  return true;
}

absl::Status ModelRun::RunBlock(RunTools& tools, Index block, LayerPruner& pruner,
                                RunStates& states) {
  if (!tools.run.spec.independent) {
    ATTNPRUNE_RETURN_IF_ERROR(BlockRun(tools, block, pruner)
                                  .Prune({states.calibration(), states.beside(), states.pruned()}));
    ATTNPRUNE_RETURN_IF_ERROR(Reconstruct(tools, block, pruner, states));
  } else if (!tools.run.rows.held_out.lengths.empty()) {  // else nothing is run through it
    ATTNPRUNE_RETURN_IF_ERROR(BlockRun(tools, block, pruner).PutAllOld());
  }
  return EndBlock(tools, block, pruner, states);
}

absl::Status ModelRun::Reconstruct(RunTools& tools, Index block, LayerPruner& pruner,
                                   RunStates& states) {
  const RunSpec& spec = tools.run.spec;
  const bool dense = tools.run.plan.blocks[static_cast<size_t>(block)].empty();
  if (!spec.reconstruction.has_value() || dense) return absl::OkStatus();
  if (results_->ReconstructedOf(block) != nullptr) {
    tools.progress.Skip(tools.run.plan.costs[static_cast<size_t>(block)].reconstruct);
    return absl::OkStatus();
  }
  ATTNPRUNE_RETURN_IF_ERROR(
      ReconstructBlock(tools, block, pruner, states.calibration(), states.beside()));
  tools.checkpoint.Forget();
  ATTNPRUNE_RETURN_IF_ERROR(ReadResults());
  return BlockRun(tools, block, pruner).PutAllOld(spec.dense_target);
}

absl::Status ModelRun::EndBlock(RunTools& tools, Index block, LayerPruner& pruner,
                                RunStates& states) {
  OpenRun& run = tools.run;
  const bool last = block + 1 == static_cast<Index>(run.plan.blocks.size());
  const bool held_out = !run.rows.held_out.lengths.empty();
  v1::RunResult result;
  result.set_block(static_cast<int>(block));
  const BlockCost& cost = run.plan.costs[static_cast<size_t>(block)];
  const bool independent = run.spec.independent;
  tools.progress.Begin(v1::ADVANCING, block, independent ? cost.score : cost.advance, {});
  const auto dense_pass = [&](const TokenStates& tokens) {
    LayerHooks hooks;
    hooks.goes_on = [&](Index) { return !job_.StopRequested(); };
    return run.forward->RunLayer(block, tokens.lengths, tokens.hidden, hooks);
  };
  if (!last && !independent) {
    ATTNPRUNE_RETURN_IF_ERROR(AdvanceCalibration(tools, block, pruner, states.calibration()));
    if (run.spec.dense_target > 0) {
      const auto goes_on = [&](double) { return !job_.StopRequested(); };
      ATTNPRUNE_RETURN_IF_ERROR(
          pruner.Advance(LayerPruner::Side::kDense, states.beside(), goes_on));
    }
  }
  if (held_out) {
    ATTNPRUNE_RETURN_IF_ERROR(pruner.Advance(LayerPruner::Side::kHeldOut, states.pruned()));
    ATTNPRUNE_RETURN_IF_ERROR(dense_pass(states.dense()));
    result.mutable_block_score()->set_output_error(*states.OutputError());
  }
  ATTNPRUNE_RETURN_IF_ERROR(job_.CheckStop());
  if ((!last && !independent) || held_out) ATTNPRUNE_RETURN_IF_ERROR(states.Store(job_, result));
  KeepCurvature(tools, block, result);
  tools.progress.End();
  ATTNPRUNE_RETURN_IF_ERROR(results_->Store(result, {}, StatesOf(result)));
  tools.checkpoint.Forget();
  return absl::OkStatus();
}

// --- The whole model ---

absl::Status ModelRun::Distill(RunTools& tools, RunStates& states) {
  if (results_->distilled() == nullptr) {
    ATTNPRUNE_RETURN_IF_ERROR(ReadResults());
    ATTNPRUNE_RETURN_IF_ERROR(DistillModel(tools));
    ATTNPRUNE_RETURN_IF_ERROR(ReadResults());
    tools.checkpoint.Forget();
  } else {
    tools.progress.Skip(tools.run.plan.distill_operations);
  }
  const v1::Trained* const distilled = results_->distilled();
  if (distilled == nullptr) return absl::InternalError("the distillation has no result");
  const bool unchanged = distilled->weights().empty();
  if (unchanged || tools.run.rows.held_out.lengths.empty()) return absl::OkStatus();
  return AdvanceDistilled(tools, states);
}

// The held-out rows through the model as it is now.
absl::Status ModelRun::AdvanceDistilled(RunTools& tools, RunStates& states) {
  OpenRun& run = tools.run;
  LayerPruner pruner(*run.forward, run.pool, LayerPlacesOf(run.plan, job_.options()));
  ATTNPRUNE_RETURN_IF_ERROR(run.forward->Embed(run.rows.held_out, states.pruned().hidden));
  for (Index block = 0; block < static_cast<Index>(run.plan.blocks.size()); ++block) {
    ATTNPRUNE_RETURN_IF_ERROR(BlockRun(tools, block, pruner).PutAllOld());
    const auto goes_on = [this](double) { return !job_.StopRequested(); };
    ATTNPRUNE_RETURN_IF_ERROR(
        pruner.Advance(LayerPruner::Side::kHeldOut, states.pruned(), goes_on));
  }
  return absl::OkStatus();
}

absl::Status ModelRun::Score(RunTools& tools, RunStates& states) {
  OpenRun& run = tools.run;
  const auto blocks = static_cast<Index>(run.plan.blocks.size());
  tools.progress.Begin(v1::SCORING, blocks, run.plan.score_operations, {});
  std::vector<std::vector<double>> losses;
  for (const TokenStates& side : {states.dense(), states.pruned()}) {
    const double before = losses.empty() ? 0 : 0.5;
    const auto goes_on = [&](double share) {
      return ListenerOf(tools.job, tools.progress)(before + share / 2);
    };
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<double> one,
                               run.forward->TokenLosses(run.rows.held_out, side.hidden, goes_on));
    losses.push_back(std::move(one));
  }
  tools.progress.End();
  const LossSummary dense = Summarize(losses[0]), pruned = Summarize(losses[1]);
  const LossDifference off = Compare(losses[0], losses[1], run.rows.held_out.lengths);
  v1::RunResult result;
  result.set_block(static_cast<int>(blocks));
  v1::ModelScore& score = *result.mutable_model_score();
  score.set_tokens(dense.tokens);
  score.set_dense_nats_per_token(dense.nats_per_token);
  score.set_pruned_nats_per_token(pruned.nats_per_token);
  score.set_difference(off.mean);
  score.set_difference_error_by_token(off.standard_error_by_token);
  score.set_difference_error_by_row(off.standard_error_by_row);
  return results_->Store(result, {}, std::vector<std::string>());
}

}  // namespace

void RunModel(const JobRecord& run, JobStore* jobs, BlobStore* tensors,
              const JobRunnerOptions& options, StopSignal* stop) {
  ModelRun(run, jobs, tensors, options, stop).Run();
}

}  // namespace attnprune
