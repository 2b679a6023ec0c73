#include "server/execution/run_distillation.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/methods/calibration_split.h"
#include "core/sequential/distillation.h"
#include "core/sequential/tensor_bytes.h"
#include "server/execution/job_tensor.h"
#include "server/execution/run_plan.h"

namespace attnprune {
namespace {

struct Split {
  Tokens training, validation;
};

// Sampled rows lie behind the real ones, of which some decide.
Split SplitRows(const OpenRun& run) {
  const Tokens& rows = run.rows.calibration;
  const Index sampled = run.spec.sampled.has_value() ? run.spec.sampled->rows : 0;
  const Index real = std::ssize(rows.lengths) - sampled;
  std::vector<bool> decide = BatchesSetApart(real, kDistillationValidation);
  decide.resize(rows.lengths.size(), false);
  Split split;
  auto id = rows.ids.begin();
  for (size_t i = 0; i < rows.lengths.size(); ++i) {
    Tokens& side = decide[i] ? split.validation : split.training;
    side.ids.insert(side.ids.end(), id, id + rows.lengths[i]);
    side.lengths.push_back(rows.lengths[i]);
    id += rows.lengths[i];
  }
  return split;
}

std::vector<Stretch::Tensor> TensorsOf(const RunTools& tools, Index block) {
  std::vector<Stretch::Tensor> tensors;
  for (const Stretch& stretch : tools.run.plan.blocks[static_cast<size_t>(block)]) {
    tensors.insert(tensors.end(), stretch.tensors.begin(), stretch.tensors.end());
  }
  return tensors;
}

absl::Status AddLayers(RunTools& tools, Distillation& distillation) {
  OpenRun& run = tools.run;
  LayerPruner pruner(*run.forward, run.pool);
  for (Index block = 0; block < std::ssize(run.plan.blocks); ++block) {
    ATTNPRUNE_RETURN_IF_ERROR(BlockRun(tools, block, pruner).PutAllOld());
    const std::vector<Stretch::Tensor> tensors = TensorsOf(tools, block);
    ATTNPRUNE_RETURN_IF_ERROR(
        distillation.Add(pruner.Release(), Stretch::Piece{.tensors = tensors}.maps()));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::TensorRef> PutTrained(RunTools& tools, Index block,
                                         const Stretch::Tensor& tensor,
                                         const LayerWeights& weights) {
  const TensorInfo& stored = *tensor.what.stored;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::vector<char> bytes,
      TensorBytes(tools.run.forward->weights(), block, tensor.what, weights));
  v1::TensorRef ref;
  ATTNPRUNE_ASSIGN_OR_RETURN(*ref.mutable_sha256(), tools.job.Put(bytes));
  ref.set_name(stored.name);
  ref.set_dtype(ToProto(stored.dtype));
  for (const Index extent : stored.shape) ref.add_shape(extent);
  return ref;
}

absl::Status StoreTrained(RunTools& tools, const Split& rows, const Distillation& distillation) {
  const DistillationPoint& point = distillation.point();
  v1::RunResult result;
  result.set_block(static_cast<int>(tools.run.plan.blocks.size()));
  v1::Distilled& distilled = *result.mutable_distilled();
  distilled.set_steps(point.steps);
  distilled.set_best_step(point.best_step);
  distilled.set_start_divergence(point.start.value_or(0));
  distilled.set_best_divergence(point.best.value_or(0));
  distilled.set_training_rows(std::ssize(rows.training.lengths));
  distilled.set_validation_rows(std::ssize(rows.validation.lengths));
  std::vector<std::string> digests;
  for (Index block = 0; block < std::ssize(tools.run.plan.blocks) && point.best_step > 0; ++block) {
    for (const Stretch::Tensor& tensor : TensorsOf(tools, block)) {
      ATTNPRUNE_ASSIGN_OR_RETURN(v1::TensorRef ref,
                                 PutTrained(tools, block, tensor, distillation.layer(block)));
      digests.push_back(ref.sha256());
      *distilled.add_weights() = std::move(ref);
    }
  }
  return tools.results.Store(result, digests, absl::nullopt);
}

}  // namespace

absl::Status TrainKeptWeights(RunTools& tools) {
  OpenRun& run = tools.run;
  const DistillationOptions& options = *run.spec.distillation;
  const Index blocks = std::ssize(run.plan.blocks);
  const Split rows = SplitRows(run);
  tools.progress.Begin(v1::DISTILLING, blocks, run.plan.distill_operations, {});
  Distillation distillation(*run.forward, run.pool, rows.training, rows.validation, options);
  ATTNPRUNE_RETURN_IF_ERROR(AddLayers(tools, distillation));
  ATTNPRUNE_RETURN_IF_ERROR(tools.checkpoint.TakeTraining(distillation, blocks));
  const auto observer = [&](const DistillationPoint& point, double loss) {
    tools.progress.Step({.step = point.steps, .steps = options.steps, .attention_loss = loss});
    tools.checkpoint.SaveTraining(distillation, blocks);
    return !tools.job.StopRequested();
  };
  const auto listener = [&tools](double) { return !tools.job.StopRequested(); };
  ATTNPRUNE_RETURN_IF_ERROR(
      distillation.Run(PassOptionsOf(run.plan, tools.job.options()), listener, observer));
  if (distillation.point().steps < options.steps) {
    tools.job.writer().AddWarning(absl::StrCat(
        "distillation: the loss is no longer finite after ", distillation.point().steps,
        " steps; the weights are those of step ", distillation.point().best_step));
  }
  tools.progress.End();
  return StoreTrained(tools, rows, distillation);
}

}  // namespace attnprune
