#include "server/execution/run_runner.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "core/model/forward.h"
#include "core/model/model_pass.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/claimed_job.h"
#include "server/execution/open_run.h"
#include "server/execution/run_messages.h"
#include "server/execution/run_plan.h"
#include "server/execution/run_progress.h"
#include "server/execution/run_spec.h"
#include "server/execution/run_states.h"
#include "server/execution/tensor_files.h"

namespace attnprune {
namespace {

// A method's steps on their way to the watchers; says stop when the run is to stop.
class StepObserver final : public ProgressObserver {
 public:
  StepObserver(ClaimedJob& job, RunProgress& progress) : job_(job), progress_(progress) {}

  Verdict OnStep(const StepStats& stats, const Resumable&) override {
    if (SolveObserver* const solves = job_.options().observer; solves != nullptr) {
      solves->OnStep(job_.options().worker, stats);
    }
    progress_.Step(stats);
    return job_.StopRequested() ? Verdict::kStop : Verdict::kContinue;
  }

 private:
  ClaimedJob& job_;
  RunProgress& progress_;
};

class ModelRun {
 public:
  ModelRun(const JobRecord& record, JobStore* jobs, BlobStore* tensors,
           const JobRunnerOptions& options, StopSignal* stop)
      : job_(record, jobs, tensors, options, stop) {}

  void Run();

 private:
  // The results that an earlier attempt left come first, in order.
  const v1::RunResult* NextOld();

  absl::Status RunAll();
  absl::StatusOr<RunStates> BeginStates(const OpenRun& run);

  absl::Status RunBlocks(OpenRun& run, RunStates& states);
  absl::StatusOr<bool> SkipBlock(const OpenRun& run, Index block, RunStates& states);
  absl::Status RunBlock(OpenRun& run, Index block, LayerPruner& pruner, RunStates& states);
  absl::Status RunStretch(OpenRun& run, Index block, size_t stretch, LayerPruner& pruner,
                          RunStates& states);
  absl::Status RunTensor(OpenRun& run, Index block, const Stretch::Tensor& tensor,
                         LayerPruner& pruner);
  absl::Status PutOld(const v1::RunResult& old, const Stretch::Tensor& tensor, LayerPruner& pruner);
  absl::Status EndBlock(OpenRun& run, Index block, LayerPruner& pruner, RunStates& states);
  absl::Status Score(OpenRun& run, RunStates& states);
  absl::Status Store(v1::RunResult& result, absl::Span<const std::string> digests,
                     const absl::optional<std::vector<std::string>>& state);

  PassListener Listener() {
    return [this](double share) {
      progress_->Advance(share);
      return !job_.StopRequested();
    };
  }

  ClaimedJob job_;
  std::vector<v1::RunResult> old_;
  size_t next_old_ = 0;
  size_t tensors_done_ = 0;               // of the block at work
  int stored_ = 0;                        // results
  std::vector<std::string> kept_states_;  // digests that the newest result with states has
  std::unique_ptr<RunProgress> progress_;
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

const v1::RunResult* ModelRun::NextOld() {
  return next_old_ < old_.size() ? &old_[next_old_++] : nullptr;
}

void ModelRun::Run() {
  absl::Status status;
  try {
    status = RunAll();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("the run needs more memory than the server has");
  }
  job_.End(status, [] { return absl::OkStatus(); });
}

absl::Status ModelRun::RunAll() {
  v1::Run message;
  if (!message.ParseFromString(job_.record().spec)) {
    return absl::DataLossError("the stored run is not a message of the API");
  }
  for (const std::string& bytes : job_.record().results) {
    if (!old_.emplace_back().ParseFromString(bytes)) {
      return absl::DataLossError("a stored result is not a message of the API");
    }
    if (old_.back().states_size() > 0) kept_states_ = StatesOf(old_.back());
  }
  stored_ = static_cast<int>(old_.size());
  TellReading(job_, static_cast<double>(stored_) / std::max(message.results_total(), 1));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<OpenRun> run, OpenRun::Open(job_, message));
  progress_ = std::make_unique<RunProgress>(job_, run->plan);
  if (stored_ == run->plan.results) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(RunStates states, BeginStates(*run));
  ATTNPRUNE_RETURN_IF_ERROR(RunBlocks(*run, states));
  return run->rows.held_out.lengths.empty() ? absl::OkStatus() : Score(*run, states);
}

// --- Where it begins ---

absl::StatusOr<RunStates> ModelRun::BeginStates(const OpenRun& run) {
  const RunNeeds needs = NeedsWithin(run.plan, job_.options().memory_budget_bytes);
  ATTNPRUNE_RETURN_IF_ERROR(CheckDiskRoom(job_.options().spill_folder, needs.disk_bytes,
                                          job_.options().min_free_disk_bytes, "the server's disk"));
  PassOptions options;
  options.memory_budget = needs.spilled ? 1 : 0;
  options.spill_folder = job_.options().spill_folder;
  return RunStates::Begin(*run.forward, run.rows, run.spec.dense_target > 0, options);
}

// --- Blocks ---

absl::Status ModelRun::RunBlocks(OpenRun& run, RunStates& states) {
  LayerPruner pruner(*run.forward, run.pool);
  const auto blocks = static_cast<Index>(run.plan.blocks.size());
  for (Index block = 0; block < blocks; ++block) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool done, SkipBlock(run, block, states));
    if (done) continue;
    const absl::Status status = RunBlock(run, block, pruner, states);
    if (!status.ok()) {
      return absl::IsCancelled(status) ? status : Annotate(status, absl::StrCat("block ", block));
    }
  }
  return absl::OkStatus();
}

double CostOf(const BlockCost& cost) {
  double operations = cost.advance;
  for (const double collect : cost.collect) operations += collect;
  for (const double prune : cost.prune) operations += prune;
  return operations;
}

size_t TensorsOf(const std::vector<Stretch>& stretches) {
  size_t count = 0;
  for (const Stretch& stretch : stretches) count += stretch.tensors.size();
  return count;
}

// Whether an earlier attempt has done the block: then the states are those behind it.
absl::StatusOr<bool> ModelRun::SkipBlock(const OpenRun& run, Index block, RunStates& states) {
  const auto place = static_cast<size_t>(block);
  const size_t last = next_old_ + TensorsOf(run.plan.blocks[place]);
  if (last >= old_.size()) return false;
  next_old_ = last + 1;
  progress_->Skip(CostOf(run.plan.costs[place]));
  const bool next_done = block + 1 < static_cast<Index>(run.plan.blocks.size()) &&
                         next_old_ + TensorsOf(run.plan.blocks[place + 1]) < old_.size();
  if (!next_done && old_[last].states_size() > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(states.Load(job_, old_[last]));
  }
  return true;
}

absl::Status ModelRun::RunBlock(OpenRun& run, Index block, LayerPruner& pruner, RunStates& states) {
  ATTNPRUNE_RETURN_IF_ERROR(pruner.Load(block, run.spec.dense_target));
  tensors_done_ = 0;
  const size_t stretches = run.plan.blocks[static_cast<size_t>(block)].size();
  for (size_t i = 0; i < stretches; ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(RunStretch(run, block, i, pruner, states));
  }
  return EndBlock(run, block, pruner, states);
}

// A stretch that an earlier attempt has done is put back without a look at its inputs.
absl::Status ModelRun::RunStretch(OpenRun& run, Index block, size_t number, LayerPruner& pruner,
                                  RunStates& states) {
  const Stretch& stretch = run.plan.blocks[static_cast<size_t>(block)][number];
  const BlockCost& cost = run.plan.costs[static_cast<size_t>(block)];
  if (next_old_ + stretch.tensors.size() > old_.size()) {
    std::vector<LinearMap> maps;
    for (const Stretch::Tensor& tensor : stretch.tensors) {
      maps.insert(maps.end(), tensor.what.maps.begin(), tensor.what.maps.end());
    }
    progress_->Begin(v1::COLLECTING, block, cost.collect[number], maps);
    ATTNPRUNE_RETURN_IF_ERROR(pruner.Collect(
        stretch, {states.calibration(), states.beside(), states.pruned()}, Listener()));
    progress_->End();
  } else {
    progress_->Skip(cost.collect[number]);
  }
  for (const Stretch::Tensor& tensor : stretch.tensors) {
    if (const v1::RunResult* const old = NextOld(); old != nullptr) {
      ATTNPRUNE_RETURN_IF_ERROR(PutOld(*old, tensor, pruner));
      progress_->Skip(cost.prune[tensors_done_]);
    } else {
      ATTNPRUNE_RETURN_IF_ERROR(RunTensor(run, block, tensor, pruner));
    }
    ++tensors_done_;
  }
  return absl::OkStatus();
}

absl::Status ModelRun::PutOld(const v1::RunResult& old, const Stretch::Tensor& tensor,
                              LayerPruner& pruner) {
  if (old.tensors_size() != 1 || old.tensors(0).name() != tensor.what.stored->name) {
    return absl::DataLossError(
        absl::StrCat("the stored results do not fit: ", tensor.what.stored->name, " is next"));
  }
  const JobTensor pruned{
      .field = absl::StrCat("run.results[", next_old_ - 1, "].tensors[0].weights"),
      .matrix = {},
      .sha256 = old.tensors(0).weights().sha256(),
      .name = old.tensors(0).name(),
      .dtype = tensor.what.stored->dtype,
      .extents = tensor.what.stored->shape};
  ATTNPRUNE_RETURN_IF_ERROR(job_.CheckStop());
  ATTNPRUNE_RETURN_IF_ERROR(VerifyTensor(job_.tensors(), pruned));
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MapTensor(*job_.tensors(), pruned));
  return pruner.Put(tensor.what, file.bytes());
}

absl::Status ModelRun::RunTensor(OpenRun& run, Index block, const Stretch::Tensor& tensor,
                                 LayerPruner& pruner) {
  ATTNPRUNE_RETURN_IF_ERROR(job_.CheckStop());
  const RunChoice* const chosen = ChoiceOf(run.spec, tensor.what);
  if (chosen == nullptr) return absl::InternalError("a tensor of the plan is not chosen");
  const RunChoice& choice = *chosen;
  const BlockCost& cost = run.plan.costs[static_cast<size_t>(block)];
  progress_->Begin(v1::PRUNING, block, cost.prune[tensors_done_], tensor.what.maps,
                   choice.method.info->name);
  StepObserver observer(job_, *progress_);
  RunOptions options;
  options.seed = run.spec.seed;
  SolveObserver* const solves = job_.options().observer;
  const int worker = job_.options().worker;
  if (solves != nullptr) solves->OnMethodBegin(worker, choice.method.info->name);
  const absl::StatusOr<PrunedWeights> pruned =
      pruner.Prune(tensor, *choice.method.Create(), choice.sparsity, options, observer);
  if (solves != nullptr) solves->OnMethodEnd(worker);
  if (!pruned.ok()) {
    if (absl::IsCancelled(pruned.status())) return pruned.status();
    return Annotate(pruned.status(), tensor.what.stored->name);
  }
  v1::RunResult result;
  result.set_block(static_cast<int>(block));
  v1::PrunedTensor& message = *result.add_tensors();
  message = DescribeTensor(tensor, choice, *pruned, progress_->seconds());
  const absl::Span<const uint8_t> mask = pruned->mask.bytes();
  ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_weights()->mutable_sha256(), job_.Put(pruned->bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(*message.mutable_mask()->mutable_sha256(),
                             job_.Put({reinterpret_cast<const char*>(mask.data()), mask.size()}));
  progress_->End();
  const std::vector<std::string> digests = {message.weights().sha256(), message.mask().sha256()};
  return Store(result, digests, absl::nullopt);
}

absl::Status ModelRun::EndBlock(OpenRun& run, Index block, LayerPruner& pruner, RunStates& states) {
  const bool last = block + 1 == static_cast<Index>(run.plan.blocks.size());
  const bool held_out = !run.rows.held_out.lengths.empty();
  v1::RunResult result;
  result.set_block(static_cast<int>(block));
  const BlockCost& cost = run.plan.costs[static_cast<size_t>(block)];
  progress_->Begin(v1::ADVANCING, block, cost.advance, {});
  const auto dense_pass = [&](const TokenStates& tokens) {
    LayerHooks hooks;
    hooks.goes_on = [&](Index) { return !job_.StopRequested(); };
    return run.forward->RunLayer(block, tokens.lengths, tokens.hidden, hooks);
  };
  if (!last) {
    ATTNPRUNE_RETURN_IF_ERROR(run.spec.independent
                                  ? dense_pass(states.calibration())
                                  : pruner.Advance(states.calibration(), Listener()));
    if (run.spec.dense_target > 0) ATTNPRUNE_RETURN_IF_ERROR(dense_pass(states.beside()));
  }
  if (held_out) {
    ATTNPRUNE_RETURN_IF_ERROR(pruner.Advance(states.pruned(), nullptr));
    ATTNPRUNE_RETURN_IF_ERROR(dense_pass(states.dense()));
    result.mutable_block_score()->set_output_error(*states.OutputError());
  }
  ATTNPRUNE_RETURN_IF_ERROR(job_.CheckStop());
  if (!last || held_out) ATTNPRUNE_RETURN_IF_ERROR(states.Store(job_, result));
  progress_->End();
  return Store(result, {}, StatesOf(result));
}

absl::Status ModelRun::Score(OpenRun& run, RunStates& states) {
  const auto blocks = static_cast<Index>(run.plan.blocks.size());
  progress_->Begin(v1::SCORING, blocks, run.plan.score_operations, {});
  std::vector<std::vector<double>> losses;
  for (const TokenStates& side : {states.dense(), states.pruned()}) {
    const double before = losses.empty() ? 0 : 0.5;
    const auto goes_on = [&](double share) { return Listener()(before + share / 2); };
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<double> one,
                               run.forward->TokenLosses(run.rows.held_out, side.hidden, goes_on));
    losses.push_back(std::move(one));
  }
  progress_->End();
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
  return Store(result, {}, std::vector<std::string>());
}

// Its seconds are those since the result before, or since the run began to work.
// The states before go once the result is stored: nobody goes on from them any more.
absl::Status ModelRun::Store(v1::RunResult& result, absl::Span<const std::string> digests,
                             const absl::optional<std::vector<std::string>>& state) {
  const auto now = std::chrono::steady_clock::now();
  result.set_seconds(std::chrono::duration<double>(now - since_).count());
  since_ = now;
  ATTNPRUNE_RETURN_IF_ERROR(job_.StoreResult(stored_, result.SerializeAsString(), digests, state));
  ++stored_;
  if (!state.has_value()) return absl::OkStatus();
  for (const std::string& digest : std::exchange(kept_states_, *state)) {
    const bool still_used = std::find(state->begin(), state->end(), digest) != state->end();
    if (!still_used) job_.tensors()->Remove(digest).IgnoreError();
  }
  return absl::OkStatus();
}

}  // namespace

void RunModel(const JobRecord& run, JobStore* jobs, BlobStore* tensors,
              const JobRunnerOptions& options, StopSignal* stop) {
  ModelRun(run, jobs, tensors, options, stop).Run();
}

}  // namespace attnprune
