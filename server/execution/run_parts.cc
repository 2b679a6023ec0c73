#include "server/execution/run_parts.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "core/model/layer_forward.h"
#include "server/execution/block_run.h"
#include "server/execution/run_allocation.h"
#include "server/execution/run_checkpoint.h"
#include "server/execution/run_plan.h"
#include "server/execution/run_progress.h"
#include "server/execution/run_results.h"
#include "server/execution/run_states.h"

namespace attnprune {
namespace {

// Between two looks whether other workers have finished their parts, in real time.
constexpr absl::Duration kLookInterval = absl::Milliseconds(100);

constexpr RunStates::Kinds kDenseStates = {
    .calibration = true, .beside = false, .dense = true, .pruned = false};

// Operations of what the run's parts have done, but for one part.
double DoneByOthers(JobStore& jobs, const JobClaim& claim, const RunPlan& plan) {
  const absl::StatusOr<std::vector<PartStatus>> parts = jobs.ReadParts(claim.id);
  if (!parts.ok()) return 0;
  double operations = 0;
  for (const PartStatus& part : *parts) {
    if (part.part == claim.part) continue;
    const BlockCost& cost = plan.costs[static_cast<size_t>(part.part)];
    const bool advanced = part.part < parts->back().part;
    operations +=
        part.done ? cost.OfPart() : cost.OfPieces(part.results) + (advanced ? cost.advance : 0);
  }
  return operations;
}

class PartRun {
 public:
  PartRun(ClaimedJob& job, OpenRun& run, RunPace& pace, const ClaimedPart& part)
      : part_(part),
        block_(part.claim.part),
        progress_(job, run.plan, pace,
                  [&] { return DoneByOthers(*job.jobs(), part.claim, run.plan); }),
        results_(job, part.results),
        checkpoint_(job),
        tools_{job, run, progress_, results_, checkpoint_} {}

  absl::Status Run();

 private:
  absl::StatusOr<RunStates> MakeStates(bool filled) const;
  absl::StatusOr<RunStates> StatesBefore();
  absl::Status PassDense(Index block, RunStates& states);
  absl::Status OpenNext(RunStates& states, LayerPruner& pruner);
  absl::StatusOr<bool> NextIsOpen();

  const ClaimedPart& part_;
  const Index block_;
  RunProgress progress_;
  RunResults results_;
  RunCheckpoint checkpoint_;
  RunTools tools_;
};

absl::StatusOr<RunStates> PartRun::MakeStates(bool filled) const {
  RunStates::Kinds kinds = kDenseStates;
  kinds.filled = filled;
  return RunStates::Begin(*tools_.run.forward, tools_.run.rows, kinds,
                          PassOptionsOf(tools_.run.plan, tools_.job.options()));
}

absl::Status PartRun::PassDense(Index block, RunStates& states) {
  LayerHooks hooks;
  hooks.goes_on = [this](Index) { return !tools_.job.StopRequested(); };
  for (const TokenStates& rows : {states.calibration(), states.dense()}) {
    if (rows.lengths.empty()) continue;
    ATTNPRUNE_RETURN_IF_ERROR(
        tools_.run.forward->RunLayer(block, rows.lengths, rows.hidden, hooks));
  }
  return tools_.job.CheckStop();
}

// States that are lost are made anew, from the tokens on.
absl::StatusOr<RunStates> PartRun::StatesBefore() {
  ATTNPRUNE_ASSIGN_OR_RETURN(RunStates states, MakeStates(/*filled=*/block_ == 0));
  if (block_ == 0) return states;
  const absl::Status loaded =
      states.LoadForPart(tools_.job, static_cast<int>(block_), part_.states);
  if (loaded.ok()) return states;
  if (!absl::IsDataLoss(loaded)) return loaded;
  tools_.job.writer().AddWarning(absl::StrCat(loaded.message(), "; they are computed anew"));
  ATTNPRUNE_ASSIGN_OR_RETURN(RunStates again, MakeStates(/*filled=*/true));
  for (Index block = 0; block < block_; ++block) {
    ATTNPRUNE_RETURN_IF_ERROR(PassDense(block, again));
  }
  return again;
}

absl::StatusOr<bool> PartRun::NextIsOpen() {
  bool open = false;
  ATTNPRUNE_RETURN_IF_ERROR(tools_.job.Write([&]() -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<PartStatus> parts,
                               tools_.job.jobs()->ReadParts(part_.claim.id));
    open = std::any_of(parts.begin(), parts.end(),
                       [this](const PartStatus& part) { return part.part == block_ + 1; });
    return absl::OkStatus();
  }));
  return open;
}

absl::Status PartRun::OpenNext(RunStates& states, LayerPruner& pruner) {
  const double operations = tools_.run.plan.costs[static_cast<size_t>(block_)].advance;
  const bool last = block_ + 1 == static_cast<Index>(tools_.run.plan.blocks.size());
  bool open = false;
  if (!last) {
    ATTNPRUNE_ASSIGN_OR_RETURN(open, NextIsOpen());
  }
  if (last || open) {
    progress_.Skip(operations);
    return absl::OkStatus();
  }
  progress_.Begin(v1::ADVANCING, block_, operations, {});
  ATTNPRUNE_ASSIGN_OR_RETURN(RunStates next, MakeStates(/*filled=*/false));
  next.CopyFrom(states);
  ATTNPRUNE_RETURN_IF_ERROR(pruner.Load(block_));
  ATTNPRUNE_RETURN_IF_ERROR(AdvanceCalibration(tools_, block_, pruner, next.calibration()));
  if (!next.dense().lengths.empty()) {
    const auto goes_on = [this](double) { return !tools_.job.StopRequested(); };
    ATTNPRUNE_RETURN_IF_ERROR(pruner.Advance(LayerPruner::Side::kHeldOut, next.dense(), goes_on));
  }
  const int number = static_cast<int>(block_) + 1;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> digests,
                             next.StoreForPart(tools_.job, number));
  progress_.End();
  return tools_.job.Write(
      [&] { return tools_.job.jobs()->OpenPart(tools_.job.claim(), number, digests); });
}

absl::Status PartRun::Run() {
  ATTNPRUNE_RETURN_IF_ERROR(results_.Read(part_.job.results));
  TakeUpAllocation(tools_);
  ATTNPRUNE_ASSIGN_OR_RETURN(RunStates states, StatesBefore());
  LayerPruner pruner(*tools_.run.forward, tools_.run.pool,
                     LayerPlacesOf(tools_.run.plan, tools_.job.options()));
  checkpoint_.Read();
  ATTNPRUNE_RETURN_IF_ERROR(OpenNext(states, pruner));
  checkpoint_.ForgetAdvanced();
  return BlockRun(tools_, block_, pruner).Prune({states.calibration(), {}, states.dense()});
}

absl::Status RunOnePart(ClaimedJob& job, OpenRun& run, RunPace& pace, const ClaimedPart& part) {
  absl::Status status = PartRun(job, run, pace, part).Run();
  job.writer().Flush();
  if (status.ok() || absl::IsCancelled(status)) return status;
  return Annotate(status, absl::StrCat("block ", part.claim.part));
}

// Once a part is done: what it began with is of no use, and its progress can be thinned out.
void CleanUp(ClaimedJob& job, const ClaimedPart& part) {
  for (const std::string& digest : part.states) job.tensors()->Remove(digest).IgnoreError();
  job.jobs()->CompactEvents(job.claim().id, CompactionLimits()).IgnoreError();
}

absl::Status RunOwnPart(ClaimedJob& job, OpenRun& run, RunPace& pace, const ClaimedPart& part) {
  ClaimedJob own(part.job, part.claim, job.jobs(), job.tensors(), job.options(), job.stop());
  absl::Status status = RunOnePart(own, run, pace, part);
  if (status.ok()) status = own.Write([&] { return own.jobs()->FinishPart(own.claim()); });
  job.CarryOver(own);
  if (status.ok()) CleanUp(job, part);
  return status;
}

absl::StatusOr<bool> AllDone(ClaimedJob& job, const OpenRun& run) {
  bool done = false;
  ATTNPRUNE_RETURN_IF_ERROR(job.Write([&]() -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<PartStatus> parts,
                               job.jobs()->ReadParts(job.claim().id));
    done =
        parts.size() == run.plan.blocks.size() &&
        std::all_of(parts.begin(), parts.end(), [](const PartStatus& part) { return part.done; });
    return absl::OkStatus();
  }));
  return done;
}

absl::StatusOr<absl::optional<ClaimedPart>> NextPart(ClaimedJob& job) {
  absl::optional<ClaimedPart> part;
  ATTNPRUNE_RETURN_IF_ERROR(job.Write([&]() -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(part, job.jobs()->ClaimOwnPart(job.claim()));
    return absl::OkStatus();
  }));
  return part;
}

}  // namespace

absl::Status RunAllParts(ClaimedJob& job, OpenRun& run, RunPace& pace) {
  ATTNPRUNE_RETURN_IF_ERROR(job.Write([&] { return job.jobs()->OpenPart(job.claim(), 0, {}); }));
  while (true) {
    ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<ClaimedPart> part, NextPart(job));
    if (part.has_value()) {
      ATTNPRUNE_RETURN_IF_ERROR(RunOwnPart(job, run, pace, *part));
      continue;
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool done, AllDone(job, run));
    if (done) return absl::OkStatus();
    job.stop()->WaitUnlessRequested(kLookInterval);
  }
}

bool RunHelper::Help(const ClaimedPart& part, const JobRunnerOptions& options, StopSignal* stop) {
  ClaimedJob job(part.job, part.claim, jobs_, tensors_, options, stop);
  const bool refused = refused_.id == part.claim.id && refused_.fence == part.claim.fence;
  absl::Status status = absl::FailedPreconditionError("given back before");
  try {
    if (!refused) status = RunPart(job, part);
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("the part needs more memory than the server has");
  }
  if (!status.ok() && !stop->requested() && !refused) {
    job.Report(status);
    refused_ = part.claim;
  }
  const bool done = job.EndPart(status);
  if (done) CleanUp(job, part);
  return done;
}

absl::Status RunHelper::Open(ClaimedJob& job, const ClaimedPart& part) {
  if (run_ != nullptr && opened_ == part.claim.id) return absl::OkStatus();
  Forget();
  v1::Run message;
  if (!message.ParseFromString(part.job.spec)) {
    return absl::DataLossError("the stored run is not a message of the API");
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(run_, OpenRun::Open(job, message));
  opened_ = part.claim.id;
  pace_ = {};
  return absl::OkStatus();
}

absl::Status RunHelper::RunPart(ClaimedJob& job, const ClaimedPart& part) {
  ATTNPRUNE_RETURN_IF_ERROR(Open(job, part));
  ATTNPRUNE_RETURN_IF_ERROR(CheckDiskRoom(job.options().spill_folder,
                                          static_cast<int64_t>(run_->plan.disk_bytes),
                                          job.options().min_free_disk_bytes, "the server's disk"));
  return RunOnePart(job, *run_, pace_, part);
}

}  // namespace attnprune
