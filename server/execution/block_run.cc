#include "server/execution/block_run.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/methods/solver_state.h"
#include "server/execution/run_choice.h"
#include "server/execution/run_curvature.h"
#include "server/execution/run_messages.h"
#include "server/execution/run_plan.h"
#include "server/execution/tensor_files.h"

namespace attnprune {
namespace {

std::vector<LinearMap> MapsOf(const Stretch& stretch) {
  return Stretch::Piece{.tensors = stretch.tensors}.maps();
}

}  // namespace

// Says stop when the run is to stop.
class BlockRun::StepObserver final : public ProgressObserver {
 public:
  StepObserver(BlockRun& block, size_t stretch, std::string tensor)
      : block_(block), stretch_(stretch), tensor_(std::move(tensor)) {}

  Verdict OnStep(const StepStats& stats, const Resumable& run) override {
    RunTools& tools = block_.tools_;
    if (SolveObserver* const solves = tools.job.options().observer; solves != nullptr) {
      solves->OnStep(tools.job.options().worker, stats);
    }
    tools.progress.Step(stats);
    const bool stopped = tools.job.StopRequested();
    const bool whole = block_.stretches()[stretch_].attention_tensors == 0;
    tools.checkpoint.SaveMethod(block_.block_, stretch_, block_.pruner_, whole, tensor_, run);
    return stopped ? Verdict::kStop : Verdict::kContinue;
  }

 private:
  BlockRun& block_;
  const size_t stretch_;
  const std::string tensor_;
};

PassListener ListenerOf(ClaimedJob& job, RunProgress& progress) {
  return [&](double share) {
    progress.Advance(share);
    return !job.StopRequested();
  };
}

absl::Status AdvanceCalibration(RunTools& tools, Index block, LayerPruner& pruner,
                                const TokenStates& states) {
  constexpr auto kKind = v1::HiddenStates::CALIBRATION;
  const Index first = tools.checkpoint.TakeAdvanced(block, kKind, states.hidden);
  const PassListener tell = ListenerOf(tools.job, tools.progress);
  const auto listener = [&](double share) {
    const bool goes_on = tell(share);
    const auto rows = std::llround(share * static_cast<double>(states.hidden.rows()));
    tools.checkpoint.SaveAdvanced(block, kKind, states.hidden, rows);
    return goes_on;
  };
  return pruner.Advance(LayerPruner::Side::kCalibration, states, listener, first);
}

absl::Status BlockRun::Prune(const LayerPruner::Tokens& tokens) {
  ATTNPRUNE_RETURN_IF_ERROR(pruner_.Load(block_, tools_.run.spec.dense_target));
  if (tools_.run.spec.curvature.has_value()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(LayerCurvature curvature,
                               ReadCurvature(tools_, block_, pruner_.weights()));
    pruner_.TakeCurvature(std::move(curvature));
  }
  pieces_done_ = 0;
  for (size_t i = 0; i < stretches().size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(PruneStretch(i, tokens));
  }
  return absl::OkStatus();
}

absl::Status BlockRun::PutAllOld(double dense_share) {
  ATTNPRUNE_RETURN_IF_ERROR(pruner_.Load(block_, dense_share));
  for (const Stretch& stretch : stretches()) {
    ATTNPRUNE_RETURN_IF_ERROR(PutOld({.tensors = stretch.tensors}));
  }
  return absl::OkStatus();
}

bool BlockRun::IsDone(const Stretch::Piece& piece) const {
  return absl::c_all_of(piece.tensors, [this](const Stretch::Tensor& tensor) {
    return tools_.results.FindTensor(tensor.what.stored->name).tensor != nullptr;
  });
}

absl::Status BlockRun::Collect(size_t number, const LayerPruner::Tokens& tokens) {
  const Stretch& stretch = stretches()[number];
  tools_.progress.Begin(v1::COLLECTING, block_, cost().collect[number], MapsOf(stretch));
  // The inputs of attention are not saved: their pass is done as a whole.
  const bool saved = stretch.attention_tensors == 0;
  StretchMoments begun;
  if (saved) begun = tools_.checkpoint.TakeMoments(block_, number, stretch.groups.size());
  const PassListener tell = ListenerOf(tools_.job, tools_.progress);
  const auto listener = [&](double share) {
    const bool goes_on = tell(share);
    if (saved) tools_.checkpoint.SaveMoments(block_, number, pruner_);
    return goes_on;
  };
  ATTNPRUNE_RETURN_IF_ERROR(pruner_.Collect(stretch, tokens, listener, std::move(begun)));
  tools_.progress.End();
  return absl::OkStatus();
}

absl::Status BlockRun::PruneStretch(size_t number, const LayerPruner::Tokens& tokens) {
  const Stretch& stretch = stretches()[number];
  if (IsDone(Stretch::Piece{.tensors = stretch.tensors})) {
    tools_.progress.Skip(cost().collect[number]);
  } else {
    ATTNPRUNE_RETURN_IF_ERROR(Collect(number, tokens));
  }
  for (const Stretch::Piece& piece : stretch.Pieces()) {
    const double operations = cost().prune[pieces_done_++];
    if (IsDone(piece)) {
      ATTNPRUNE_RETURN_IF_ERROR(PutOld(piece));
      tools_.progress.Skip(operations);
      continue;
    }
    absl::Status status = PrunePiece(number, piece, operations);
    if (IsResumeRefused(status)) {  // without the state that was saved
      tools_.job.writer().AddWarning(
          absl::StrCat(piece.tensors[0].what.stored->name, ": ", status.message()));
      ATTNPRUNE_RETURN_IF_ERROR(Collect(number, tokens));
      status = PrunePiece(number, piece, operations);
    }
    ATTNPRUNE_RETURN_IF_ERROR(status);
  }
  tools_.checkpoint.ForgetStretch(block_, number);
  return absl::OkStatus();
}

RunOptions BlockRun::Options(const Stretch::Tensor& first) {
  RunOptions options;
  options.seed = tools_.run.spec.seed;
  options.resume_from = tools_.checkpoint.TakeMethodState(block_, first.what.stored->name);
  return options;
}

absl::Status BlockRun::PutOld(const Stretch::Piece& piece) {
  ClaimedJob& job = tools_.job;
  for (const Stretch::Tensor& tensor : piece.tensors) {
    const RunResults::OldTensor old = tools_.results.FindTensor(tensor.what.stored->name);
    if (old.tensor == nullptr) {
      return absl::DataLossError(absl::StrCat(tensor.what.stored->name, ": has no result"));
    }
    const JobTensor pruned{.field = old.field,
                           .matrix = {},
                           .sha256 = old.weights,
                           .name = old.tensor->name(),
                           .dtype = tensor.what.stored->dtype,
                           .extents = tensor.what.stored->shape};
    ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
    ATTNPRUNE_RETURN_IF_ERROR(VerifyTensor(job.tensors(), pruned));
    ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MapTensor(*job.tensors(), pruned));
    ATTNPRUNE_RETURN_IF_ERROR(pruner_.Put(tensor.what, file.bytes()));
    ATTNPRUNE_RETURN_IF_ERROR(CheckRead(pruned, file));
  }
  return absl::OkStatus();
}

absl::Status BlockRun::PrunePiece(size_t stretch, const Stretch::Piece& piece, double operations) {
  ClaimedJob& job = tools_.job;
  ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
  const Stretch::Tensor& first = piece.tensors[0];
  const RunSpec& spec = tools_.run.spec;
  const absl::optional<RunChoice> choice =
      ChoiceOf(spec, tools_.run.plan.Sparsities(block_), first.what);
  if (!choice.has_value()) return absl::InternalError("a tensor of the plan is not chosen");
  const char* const method = (piece.attention ? *spec.attention_method : choice->method).info->name;
  tools_.progress.Begin(v1::PRUNING, block_, operations, piece.maps(), method);
  SolveObserver* const solves = job.options().observer;
  const int worker = job.options().worker;
  if (solves != nullptr) solves->OnMethodBegin(worker, method);
  StepObserver observer(*this, stretch, first.what.stored->name);
  const auto solved = piece.attention ? SolveAttention(piece, *choice, observer)
                                      : SolveTensor(first, *choice, observer);
  if (solves != nullptr) solves->OnMethodEnd(worker);
  if (!solved.ok()) {
    if (absl::IsCancelled(solved.status()) || IsResumeRefused(solved.status())) {
      return solved.status();
    }
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
  ATTNPRUNE_RETURN_IF_ERROR(tools_.results.Store(result, digests, absl::nullopt));
  tools_.checkpoint.AfterResult();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::PrunedTensor>> BlockRun::SolveTensor(const Stretch::Tensor& tensor,
                                                                    const RunChoice& choice,
                                                                    StepObserver& observer) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const PrunedWeights pruned,
      pruner_.Prune(tensor, *choice.method.Create(), choice.sparsity, Options(tensor), observer));
  const double seconds = tools_.progress.seconds();
  ATTNPRUNE_ASSIGN_OR_RETURN(v1::PrunedTensor message, Stored(tensor, pruned));
  DescribeChoice(choice.method, choice.sparsity, seconds, message);
  return std::vector<v1::PrunedTensor>{message};
}

absl::StatusOr<std::vector<v1::PrunedTensor>> BlockRun::SolveAttention(const Stretch::Piece& piece,
                                                                       const RunChoice& choice,
                                                                       StepObserver& observer) {
  const ChosenMethod& method = *tools_.run.spec.attention_method;
  const std::unique_ptr<Method> attention = method.Create(), others = choice.method.Create();
  ATTNPRUNE_ASSIGN_OR_RETURN(const PrunedAttention pruned,
                             pruner_.PruneAttention(piece, {*attention, *others}, choice.sparsity,
                                                    Options(piece.tensors[0]), observer));
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
