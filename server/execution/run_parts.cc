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
#include "core/io/messages.h"
#include "core/model/layer_forward.h"
#include "server/execution/block_run.h"
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
    operations += part.done ? cost.OfPart() : cost.OfTensors(part.results);
  }
  return operations;
}

class PartRun {
 public:
  PartRun(ClaimedJob& job, OpenRun& run, const ClaimedPart& part)
      : part_(part),
        block_(part.claim.part),
        progress_(job, run.plan, [&] { return DoneByOthers(*job.jobs(), part.claim, run.plan); }),
        results_(job, part.results),
        tools_{job, run, progress_, results_} {}

  absl::Status Run();

 private:
  absl::StatusOr<RunStates> MakeStates();
  absl::Status OpenNext(RunStates& states);
  absl::StatusOr<bool> NextIsOpen();

  const ClaimedPart& part_;
  const Index block_;
  RunProgress progress_;
  RunResults results_;
  RunTools tools_;
};

absl::StatusOr<RunStates> PartRun::MakeStates() {
  return RunStates::Begin(*tools_.run.forward, tools_.run.rows, kDenseStates,
                          PassOptionsOf(tools_.run.plan, tools_.job.options()));
}

absl::StatusOr<bool> PartRun::NextIsOpen() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<PartStatus> parts,
                             tools_.job.jobs()->ReadParts(part_.claim.id));
  return std::any_of(parts.begin(), parts.end(),
                     [this](const PartStatus& part) { return part.part == block_ + 1; });
}

absl::Status PartRun::OpenNext(RunStates& states) {
  const double operations = tools_.run.plan.costs[static_cast<size_t>(block_)].advance;
  if (block_ + 1 == static_cast<Index>(tools_.run.plan.blocks.size())) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool open, NextIsOpen());
  if (open) {
    progress_.Skip(operations);
    return absl::OkStatus();
  }
  progress_.Begin(v1::ADVANCING, block_, operations, {});
  ATTNPRUNE_ASSIGN_OR_RETURN(RunStates next, MakeStates());
  next.CopyFrom(states);
  LayerHooks hooks;
  hooks.goes_on = [this](Index) { return !tools_.job.StopRequested(); };
  for (const TokenStates& rows : {next.calibration(), next.dense()}) {
    if (rows.lengths.empty()) continue;
    ATTNPRUNE_RETURN_IF_ERROR(
        tools_.run.forward->RunLayer(block_, rows.lengths, rows.hidden, hooks));
  }
  ATTNPRUNE_RETURN_IF_ERROR(tools_.job.CheckStop());
  const int number = static_cast<int>(block_) + 1;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> digests,
                             next.StoreForPart(tools_.job, number));
  progress_.End();
  return tools_.job.Retry(
      [&] { return tools_.job.jobs()->OpenPart(tools_.job.claim(), number, digests); });
}

absl::Status PartRun::Run() {
  ATTNPRUNE_RETURN_IF_ERROR(results_.Read(part_.job.results));
  ATTNPRUNE_ASSIGN_OR_RETURN(RunStates states, MakeStates());
  if (block_ > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(
        states.LoadForPart(tools_.job, static_cast<int>(block_), part_.states));
  }
  ATTNPRUNE_RETURN_IF_ERROR(OpenNext(states));
  LayerPruner pruner(*tools_.run.forward, tools_.run.pool);
  return BlockRun(tools_, block_, pruner).Prune({states.calibration(), {}, states.dense()});
}

absl::Status RunOnePart(ClaimedJob& job, OpenRun& run, const ClaimedPart& part) {
  const absl::Status status = PartRun(job, run, part).Run();
  if (status.ok() || absl::IsCancelled(status)) return status;
  return Annotate(status, absl::StrCat("block ", part.claim.part));
}

// What the part began with is of no use any more.
void RemoveStates(BlobStore& tensors, const ClaimedPart& part) {
  for (const std::string& digest : part.states) tensors.Remove(digest).IgnoreError();
}

absl::Status RunOwnPart(ClaimedJob& job, OpenRun& run, const ClaimedPart& part) {
  ClaimedJob own(part.job, part.claim, job.jobs(), job.tensors(), job.options(), job.stop());
  ATTNPRUNE_RETURN_IF_ERROR(RunOnePart(own, run, part));
  own.writer().Flush();
  ATTNPRUNE_RETURN_IF_ERROR(own.Retry([&] { return own.jobs()->FinishPart(own.claim()); }));
  RemoveStates(*job.tensors(), part);
  return absl::OkStatus();
}

absl::StatusOr<bool> AllDone(ClaimedJob& job, const OpenRun& run) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<PartStatus> parts,
                             job.jobs()->ReadParts(job.claim().id));
  return parts.size() == run.plan.blocks.size() &&
         std::all_of(parts.begin(), parts.end(), [](const PartStatus& part) { return part.done; });
}

}  // namespace

absl::Status RunAllParts(ClaimedJob& job, OpenRun& run) {
  ATTNPRUNE_RETURN_IF_ERROR(job.Retry([&] { return job.jobs()->OpenPart(job.claim(), 0, {}); }));
  while (true) {
    ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
    absl::optional<ClaimedPart> part;
    ATTNPRUNE_RETURN_IF_ERROR(job.Retry([&]() -> absl::Status {
      // Its claim lapses with the run's own, which is renewed.
      ATTNPRUNE_ASSIGN_OR_RETURN(part,
                                 job.jobs()->ClaimPart(job.claim().id, job.record().lease_owner,
                                                       absl::InfiniteDuration()));
      return absl::OkStatus();
    }));
    if (part.has_value()) {
      ATTNPRUNE_RETURN_IF_ERROR(RunOwnPart(job, run, *part));
      continue;
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool done, AllDone(job, run));
    if (done) return absl::OkStatus();
    job.stop()->WaitUnlessRequested(kLookInterval);
  }
}

void RunHelper::Help(const ClaimedPart& part, const JobRunnerOptions& options, StopSignal* stop) {
  ClaimedJob job(part.job, part.claim, jobs_, tensors_, options, stop);
  absl::Status status;
  try {
    status = RunPart(job, part);
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("the run needs more memory than the server has");
  }
  job.EndPart(status);
  if (status.ok() && !stop->requested()) RemoveStates(*tensors_, part);
}

absl::Status RunHelper::RunPart(ClaimedJob& job, const ClaimedPart& part) {
  const bool opened =
      run_ != nullptr && opened_by_.id == part.claim.id && opened_by_.fence == part.claim.fence;
  if (!opened) {
    Forget();
    v1::Run message;
    if (!message.ParseFromString(part.job.spec)) {
      return absl::DataLossError("the stored run is not a message of the API");
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(run_, OpenRun::Open(job, message));
    opened_by_ = part.claim;
  }
  return RunOnePart(job, *run_, part);
}

}  // namespace attnprune
