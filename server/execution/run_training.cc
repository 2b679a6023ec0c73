#include "server/execution/run_training.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/methods/calibration_split.h"
#include "core/sequential/block_reconstruction.h"
#include "core/sequential/distillation.h"
#include "core/sequential/tensor_bytes.h"
#include "server/execution/job_tensor.h"
#include "server/execution/run_plan.h"
#include "server/execution/stop_signal.h"

namespace attnprune {
namespace {

// By calibration row. Sampled rows lie behind the real ones, of which some decide.
std::vector<bool> DecidingRows(const OpenRun& run) {
  const auto& lengths = run.rows.calibration.lengths;
  const Index sampled = run.spec.sampled.has_value() ? run.spec.sampled->rows : 0;
  std::vector<bool> decides = BatchesSetApart(std::ssize(lengths) - sampled, kTrainingValidation);
  decides.resize(lengths.size(), false);
  return decides;
}

std::vector<Stretch::Tensor> TensorsOf(const RunTools& tools, Index block) {
  std::vector<Stretch::Tensor> tensors;
  for (const Stretch& stretch : tools.run.plan.blocks[static_cast<size_t>(block)]) {
    tensors.insert(tensors.end(), stretch.tensors.begin(), stretch.tensors.end());
  }
  return tensors;
}

std::vector<LinearMap> MapsOf(const std::vector<Stretch::Tensor>& tensors) {
  return Stretch::Piece{.tensors = tensors}.maps();
}

// A training on its way to the watchers and into checkpoints.
class Telling {
 public:
  // All must outlive it.
  Telling(RunTools& tools, Index block, int steps, Training& training)
      : tools_(tools), block_(block), steps_(steps), training_(training) {}

  PassListener listener() {
    return [this](double share) { return OnShare(share); };
  }
  TrainingObserver observer() {
    return [this](const TrainingPoint& point, double loss) { return OnStep(point, loss); };
  }

 private:
  using Clock = std::chrono::steady_clock;
  // A step that is finished though the server drains, so that it is saved.
  static constexpr std::chrono::seconds kShortStep{2};

  // Within a step; before the first, what is done is told.
  bool OnShare(double share) {
    share_ = share;
    const bool begun = training_.point().start.has_value();
    if (!begun) tools_.progress.Advance(share);
    if (!tools_.job.StopRequested()) return true;
    const bool drains = tools_.job.stop()->reason() == StopReason::kDraining;
    return drains && begun && took_.has_value() && *took_ < kShortStep;
  }

  bool OnStep(const TrainingPoint& point, double loss) {
    tools_.progress.Step({.step = point.steps, .steps = steps_, .attention_loss = loss}, share_);
    tools_.checkpoint.SaveTraining(block_, training_);
    const Clock::time_point now = Clock::now();
    took_ = now - std::exchange(since_, now);
    return !tools_.job.StopRequested();
  }

  RunTools& tools_;
  const Index block_;
  const int steps_;
  Training& training_;
  double share_ = 0;
  Clock::time_point since_ = Clock::now();
  absl::optional<Clock::duration> took_;  // the last step
};

void WarnOfEnd(RunTools& tools, const std::string& what, const TrainingOptions& options,
               const TrainingPoint& point) {
  if (point.steps == options.steps) return;
  tools.job.writer().AddWarning(absl::StrCat(what, ": the loss is no longer finite after ",
                                             point.steps, " steps; the weights are those of step ",
                                             point.best_step));
}

// That an earlier attempt has done.
double ShareOf(const TrainingPoint& point, const TrainingOptions& options) {
  return static_cast<double>(point.steps) / std::max(options.steps, 1);
}

v1::Trained Summary(const OpenRun& run, const TrainingPoint& point) {
  int validation = 0;
  const std::vector<bool> decides = DecidingRows(run);
  for (const bool decides_this : decides) validation += decides_this ? 1 : 0;
  v1::Trained trained;
  trained.set_steps(point.steps);
  trained.set_best_step(point.best_step);
  trained.set_start_loss(point.start.value_or(0));
  trained.set_best_loss(point.best.value_or(0));
  trained.set_training_rows(std::ssize(decides) - validation);
  trained.set_validation_rows(validation);
  return trained;
}

// Stores the block's tensors as they are in `weights`.
absl::Status PutTrained(RunTools& tools, Index block, const LayerWeights& weights,
                        v1::Trained& trained, std::vector<std::string>& digests) {
  for (const Stretch::Tensor& tensor : TensorsOf(tools, block)) {
    const TensorInfo& stored = *tensor.what.stored;
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const std::vector<char> bytes,
        TensorBytes(tools.run.forward->weights(), block, tensor.what, weights));
    v1::TensorRef& ref = *trained.add_weights();
    ATTNPRUNE_ASSIGN_OR_RETURN(*ref.mutable_sha256(), tools.job.Put(bytes));
    ref.set_name(stored.name);
    ref.set_dtype(ToProto(stored.dtype));
    for (const Index extent : stored.shape) ref.add_shape(extent);
    digests.push_back(ref.sha256());
  }
  return absl::OkStatus();
}

absl::Status AddLayers(RunTools& tools, Distillation& distillation) {
  OpenRun& run = tools.run;
  LayerPruner pruner(*run.forward, run.pool);
  for (Index block = 0; block < std::ssize(run.plan.blocks); ++block) {
    ATTNPRUNE_RETURN_IF_ERROR(BlockRun(tools, block, pruner).PutAllOld());
    ATTNPRUNE_RETURN_IF_ERROR(distillation.Add(pruner.Release(), MapsOf(TensorsOf(tools, block))));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReconstructBlock(RunTools& tools, Index block, LayerPruner& pruner,
                              const TokenStates& inputs, const TokenStates& dense) {
  OpenRun& run = tools.run;
  const TrainingOptions& options = *run.spec.reconstruction;
  const double operations = run.plan.costs[static_cast<size_t>(block)].reconstruct;
  tools.progress.Begin(v1::RECONSTRUCTING, block, operations, {});
  ReconstructionProblem problem{.layer = block,
                                .inputs = inputs,
                                .dense = dense,
                                .dense_share = run.spec.dense_target,
                                .metric = {},
                                .decides = DecidingRows(run)};
  if (run.spec.curvature.has_value()) problem.metric = pruner.ReleaseCurvature().output;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<BlockReconstruction> training,
      BlockReconstruction::Create(*run.forward, run.pool, std::move(problem), pruner.Release(),
                                  MapsOf(TensorsOf(tools, block)), options));
  ATTNPRUNE_RETURN_IF_ERROR(tools.checkpoint.TakeTraining(block, *training));
  tools.progress.Resume(ShareOf(training->point(), options));
  Telling telling(tools, block, options.steps, *training);
  ATTNPRUNE_RETURN_IF_ERROR(training->Run(PassOptionsOf(run.plan, tools.job.options()),
                                          telling.listener(), telling.observer()));
  WarnOfEnd(tools, absl::StrCat("block ", block, ", reconstruction"), options, training->point());
  tools.progress.End();
  v1::RunResult result;
  result.set_block(static_cast<int>(block));
  std::vector<std::string> digests;
  v1::Trained& trained = *result.mutable_reconstructed();
  trained = Summary(run, training->point());
  if (trained.best_step() > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(PutTrained(tools, block, training->weights(), trained, digests));
  }
  return tools.results.Store(result, digests, absl::nullopt);
}

absl::Status DistillModel(RunTools& tools) {
  OpenRun& run = tools.run;
  const TrainingOptions& options = *run.spec.distillation;
  const Index blocks = std::ssize(run.plan.blocks);
  tools.progress.Begin(v1::DISTILLING, blocks, run.plan.distill_operations, {});
  Distillation training(*run.forward, run.pool, run.rows.calibration, DecidingRows(run), options);
  ATTNPRUNE_RETURN_IF_ERROR(AddLayers(tools, training));
  ATTNPRUNE_RETURN_IF_ERROR(tools.checkpoint.TakeTraining(blocks, training));
  tools.progress.Resume(ShareOf(training.point(), options));
  Telling telling(tools, blocks, options.steps, training);
  ATTNPRUNE_RETURN_IF_ERROR(training.Run(PassOptionsOf(run.plan, tools.job.options()),
                                         telling.listener(), telling.observer()));
  WarnOfEnd(tools, "distillation", options, training.point());
  tools.progress.End();
  v1::RunResult result;
  result.set_block(static_cast<int>(blocks));
  std::vector<std::string> digests;
  v1::Trained& trained = *result.mutable_distilled();
  trained = Summary(run, training.point());
  for (Index block = 0; block < blocks && trained.best_step() > 0; ++block) {
    ATTNPRUNE_RETURN_IF_ERROR(PutTrained(tools, block, training.layer(block), trained, digests));
  }
  return tools.results.Store(result, digests, absl::nullopt);
}

}  // namespace attnprune
