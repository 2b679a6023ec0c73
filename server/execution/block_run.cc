#include "server/execution/block_run.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "server/execution/run_messages.h"
#include "server/execution/run_plan.h"
#include "server/execution/tensor_files.h"

namespace attnprune {
namespace {

// A method's steps on their way to the watchers; says stop when the run is to stop.
class StepObserver final : public ProgressObserver {
 public:
  explicit StepObserver(RunTools& tools) : tools_(tools) {}

  Verdict OnStep(const StepStats& stats, const Resumable&) override {
    if (SolveObserver* const solves = tools_.job.options().observer; solves != nullptr) {
      solves->OnStep(tools_.job.options().worker, stats);
    }
    tools_.progress.Step(stats);
    return tools_.job.StopRequested() ? Verdict::kStop : Verdict::kContinue;
  }

 private:
  RunTools& tools_;
};

std::vector<LinearMap> MapsOf(const Stretch& stretch) {
  std::vector<LinearMap> maps;
  for (const Stretch::Tensor& tensor : stretch.tensors) {
    maps.insert(maps.end(), tensor.what.maps.begin(), tensor.what.maps.end());
  }
  return maps;
}

}  // namespace

PassListener ListenerOf(RunTools& tools) {
  return [&tools](double share) {
    tools.progress.Advance(share);
    return !tools.job.StopRequested();
  };
}

absl::Status BlockRun::Prune(const LayerPruner::Tokens& tokens) {
  ATTNPRUNE_RETURN_IF_ERROR(pruner_.Load(block_, tools_.run.spec.dense_target));
  tensors_done_ = 0;
  const std::vector<Stretch>& stretches = tools_.run.plan.blocks[static_cast<size_t>(block_)];
  for (size_t i = 0; i < stretches.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(PruneStretch(stretches[i], cost().collect[i], tokens));
  }
  return absl::OkStatus();
}

bool BlockRun::IsDone(const Stretch& stretch) const {
  for (const Stretch::Tensor& tensor : stretch.tensors) {
    if (tools_.results.FindTensor(tensor.what.stored->name).tensor == nullptr) return false;
  }
  return true;
}

absl::Status BlockRun::PruneStretch(const Stretch& stretch, double collect_operations,
                                    const LayerPruner::Tokens& tokens) {
  if (IsDone(stretch)) {
    tools_.progress.Skip(collect_operations);
  } else {
    tools_.progress.Begin(v1::COLLECTING, block_, collect_operations, MapsOf(stretch));
    ATTNPRUNE_RETURN_IF_ERROR(pruner_.Collect(stretch, tokens, ListenerOf(tools_)));
    tools_.progress.End();
  }
  for (const Stretch::Tensor& tensor : stretch.tensors) {
    const double operations = cost().prune[tensors_done_];
    const RunResults::OldTensor old = tools_.results.FindTensor(tensor.what.stored->name);
    if (old.tensor != nullptr) {
      ATTNPRUNE_RETURN_IF_ERROR(PutOld(old, tensor));
      tools_.progress.Skip(operations);
    } else {
      ATTNPRUNE_RETURN_IF_ERROR(PruneTensor(tensor, operations));
    }
    ++tensors_done_;
  }
  return absl::OkStatus();
}

absl::Status BlockRun::PutOld(const RunResults::OldTensor& old, const Stretch::Tensor& tensor) {
  ClaimedJob& job = tools_.job;
  const JobTensor pruned{.field = absl::StrCat("run.results[", old.result, "].tensors[0].weights"),
                         .matrix = {},
                         .sha256 = old.tensor->weights().sha256(),
                         .name = old.tensor->name(),
                         .dtype = tensor.what.stored->dtype,
                         .extents = tensor.what.stored->shape};
  ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
  ATTNPRUNE_RETURN_IF_ERROR(VerifyTensor(job.tensors(), pruned));
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MapTensor(*job.tensors(), pruned));
  return pruner_.Put(tensor.what, file.bytes());
}

absl::Status BlockRun::PruneTensor(const Stretch::Tensor& tensor, double operations) {
  ClaimedJob& job = tools_.job;
  ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
  const RunChoice* const chosen = ChoiceOf(tools_.run.spec, tensor.what);
  if (chosen == nullptr) return absl::InternalError("a tensor of the plan is not chosen");
  const RunChoice& choice = *chosen;
  tools_.progress.Begin(v1::PRUNING, block_, operations, tensor.what.maps,
                        choice.method.info->name);
  StepObserver observer(tools_);
  RunOptions options;
  options.seed = tools_.run.spec.seed;
  SolveObserver* const solves = job.options().observer;
  const int worker = job.options().worker;
  if (solves != nullptr) solves->OnMethodBegin(worker, choice.method.info->name);
  const absl::StatusOr<PrunedWeights> pruned =
      pruner_.Prune(tensor, *choice.method.Create(), choice.sparsity, options, observer);
  if (solves != nullptr) solves->OnMethodEnd(worker);
  if (!pruned.ok()) {
    if (absl::IsCancelled(pruned.status())) return pruned.status();
    return Annotate(pruned.status(), tensor.what.stored->name);
  }
  v1::RunResult result;
  result.set_block(static_cast<int>(block_));
  v1::PrunedTensor& message = *result.add_tensors();
  message = DescribeTensor(tensor, choice, *pruned, tools_.progress.seconds());
  const absl::Span<const uint8_t> mask = pruned->mask.bytes();
  ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_weights()->mutable_sha256(), job.Put(pruned->bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_mask()->mutable_sha256(),
                             job.Put({reinterpret_cast<const char*>(mask.data()), mask.size()}));
  tools_.progress.End();
  const std::vector<std::string> digests = {message.weights().sha256(), message.mask().sha256()};
  return tools_.results.Store(result, digests, absl::nullopt);
}

}  // namespace attnprune
