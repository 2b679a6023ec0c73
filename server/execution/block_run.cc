#include "server/execution/block_run.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "server/execution/run_choice.h"
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
  return Stretch::Piece{.tensors = stretch.tensors}.maps();
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
  pieces_done_ = 0;
  const std::vector<Stretch>& stretches = tools_.run.plan.blocks[static_cast<size_t>(block_)];
  for (size_t i = 0; i < stretches.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(PruneStretch(stretches[i], cost().collect[i], tokens));
  }
  return absl::OkStatus();
}

bool BlockRun::IsDone(const Stretch::Piece& piece) const {
  return absl::c_all_of(piece.tensors, [this](const Stretch::Tensor& tensor) {
    return tools_.results.FindTensor(tensor.what.stored->name).tensor != nullptr;
  });
}

absl::Status BlockRun::PruneStretch(const Stretch& stretch, double collect_operations,
                                    const LayerPruner::Tokens& tokens) {
  if (IsDone(Stretch::Piece{.tensors = stretch.tensors})) {
    tools_.progress.Skip(collect_operations);
  } else {
    tools_.progress.Begin(v1::COLLECTING, block_, collect_operations, MapsOf(stretch));
    ATTNPRUNE_RETURN_IF_ERROR(pruner_.Collect(stretch, tokens, ListenerOf(tools_)));
    tools_.progress.End();
  }
  for (const Stretch::Piece& piece : stretch.Pieces()) {
    const double operations = cost().prune[pieces_done_++];
    if (IsDone(piece)) {
      ATTNPRUNE_RETURN_IF_ERROR(PutOld(piece));
      tools_.progress.Skip(operations);
    } else {
      ATTNPRUNE_RETURN_IF_ERROR(PrunePiece(piece, operations));
    }
  }
  return absl::OkStatus();
}

absl::Status BlockRun::PutOld(const Stretch::Piece& piece) {
  ClaimedJob& job = tools_.job;
  for (const Stretch::Tensor& tensor : piece.tensors) {
    const RunResults::OldTensor old = tools_.results.FindTensor(tensor.what.stored->name);
    const JobTensor pruned{
        .field = absl::StrCat("run.results[", old.result, "].tensors[", old.place, "].weights"),
        .matrix = {},
        .sha256 = old.tensor->weights().sha256(),
        .name = old.tensor->name(),
        .dtype = tensor.what.stored->dtype,
        .extents = tensor.what.stored->shape};
    ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
    ATTNPRUNE_RETURN_IF_ERROR(VerifyTensor(job.tensors(), pruned));
    ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MapTensor(*job.tensors(), pruned));
    ATTNPRUNE_RETURN_IF_ERROR(pruner_.Put(tensor.what, file.bytes()));
  }
  return absl::OkStatus();
}

absl::Status BlockRun::PrunePiece(const Stretch::Piece& piece, double operations) {
  ClaimedJob& job = tools_.job;
  ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
  const Stretch::Tensor& first = piece.tensors[0];
  const RunSpec& spec = tools_.run.spec;
  const absl::optional<RunChoice> choice =
      ChoiceOf(spec, tools_.run.plan.block_sparsities, block_, first.what);
  if (!choice.has_value()) return absl::InternalError("a tensor of the plan is not chosen");
  const char* const method = (piece.attention ? *spec.attention_method : choice->method).info->name;
  tools_.progress.Begin(v1::PRUNING, block_, operations, piece.maps(), method);
  SolveObserver* const solves = job.options().observer;
  const int worker = job.options().worker;
  if (solves != nullptr) solves->OnMethodBegin(worker, method);
  const auto solved =
      piece.attention ? SolveAttention(piece, *choice) : SolveTensor(first, *choice);
  if (solves != nullptr) solves->OnMethodEnd(worker);
  if (!solved.ok()) {
    if (absl::IsCancelled(solved.status())) return solved.status();
    return Annotate(solved.status(), first.what.stored->name);
  }
  v1::RunResult result;
  result.set_block(static_cast<int>(block_));
  std::vector<std::string> digests;
  for (const v1::PrunedTensor& tensor : *solved) {
    digests.push_back(tensor.weights().sha256());
    digests.push_back(tensor.mask().sha256());
    *result.add_tensors() = tensor;
  }
  tools_.progress.End();
  return tools_.results.Store(result, digests, absl::nullopt);
}

absl::StatusOr<std::vector<v1::PrunedTensor>> BlockRun::SolveTensor(const Stretch::Tensor& tensor,
                                                                    const RunChoice& choice) {
  StepObserver observer(tools_);
  RunOptions options;
  options.seed = tools_.run.spec.seed;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const PrunedWeights pruned,
      pruner_.Prune(tensor, *choice.method.Create(), choice.sparsity, options, observer));
  const double seconds = tools_.progress.seconds();
  ATTNPRUNE_ASSIGN_OR_RETURN(v1::PrunedTensor message, Stored(tensor, pruned));
  DescribeChoice(choice.method, choice.sparsity, seconds, message);
  return std::vector<v1::PrunedTensor>{message};
}

absl::StatusOr<std::vector<v1::PrunedTensor>> BlockRun::SolveAttention(const Stretch::Piece& piece,
                                                                       const RunChoice& choice) {
  const ChosenMethod& method = *tools_.run.spec.attention_method;
  StepObserver observer(tools_);
  RunOptions options;
  options.seed = tools_.run.spec.seed;
  const std::unique_ptr<Method> attention = method.Create(), others = choice.method.Create();
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const PrunedAttention pruned,
      pruner_.PruneAttention(piece, {*attention, *others}, choice.sparsity, options, observer));
  const double seconds = tools_.progress.seconds();
  if (pruned.reason == TerminationReason::kNumericalError) {
    tools_.job.writer().AddWarning(absl::StrCat(
        "block ", block_, ", ", method.info->name, ": the loss is no longer finite after ",
        pruned.tensors[0].steps, " steps; the result is the last finite mask"));
  }
  std::vector<v1::PrunedTensor> messages;
  for (size_t i = 0; i < piece.tensors.size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::PrunedTensor message,
                               Stored(piece.tensors[i], pruned.tensors[i]));
    const auto tensors = static_cast<double>(piece.tensors.size());
    DescribeChoice(method, choice.sparsity, seconds / tensors, message);
    message.set_attention_calibration_error(pruned.calibration_error);
    if (pruned.held_out_error.has_value()) {
      message.set_attention_held_out_error(*pruned.held_out_error);
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

absl::StatusOr<v1::PrunedTensor> BlockRun::Stored(const Stretch::Tensor& tensor,
                                                  const PrunedWeights& pruned) {
  v1::PrunedTensor message = DescribeTensor(tensor, pruned);
  const absl::Span<const uint8_t> mask = pruned.mask.bytes();
  ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_weights()->mutable_sha256(),
                             tools_.job.Put(pruned.bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      *message.mutable_mask()->mutable_sha256(),
      tools_.job.Put({reinterpret_cast<const char*>(mask.data()), mask.size()}));
  return message;
}

}  // namespace attnprune
