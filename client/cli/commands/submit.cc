// attnprune submit: upload what the server lacks, create the job, or a run, and watch it if asked
// to.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/flags/prune_flags.h"
#include "client/cli/jobs/captured_input.h"
#include "client/cli/jobs/make_job.h"
#include "client/cli/jobs/make_run.h"
#include "client/cli/jobs/prune_runs.h"
#include "client/cli/jobs/run_by_time.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/shell/printable.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

struct SubmitFlags {
  JobFlags job;
  PruneFlags prune;  // what only runs have; its `job` is not used
  ConnectFlags connect;
  bool run = false, watch = false, validate_only = false;
};

absl::Status Check(const SubmitFlags& flags) {
  const JobFlags& job = flags.job;
  const bool wants_files =
      !job.output.empty() || !job.save_mask.empty() || !job.tensorboard.empty();
  if (!flags.run) ATTNPRUNE_RETURN_IF_ERROR(CheckNoRunFlags(flags.prune));
  if (!wants_files || flags.watch) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--output, --save-mask and --tensorboard need --watch; or use attnprune fetch and "
      "attnprune export later");
}

SubmitMode ModeOf(const SubmitFlags& flags) {
  return flags.validate_only ? SubmitMode::kValidateOnly : SubmitMode::kCreate;
}

std::string EstimateText(const v1::Job& job) {
  return absl::StrCat("valid; memory ", BytesText(job.estimate().memory_bytes()), ", time ",
                      SecondsText(job.estimate().seconds()), " on one idle thread\n");
}

std::string EstimateText(const v1::Run& run) {
  return absl::StrCat("valid; memory ", BytesText(run.estimate().memory_bytes()), ", disk ",
                      BytesText(run.estimate().disk_bytes()), ", time ",
                      SecondsText(run.estimate().seconds()), " on one idle thread\n");
}

int TellEstimate(const Shell& shell, const SubmitFlags& flags, const v1::Job& job) {
  *shell.out << (flags.connect.json ? Json(job, JsonStyle::kIndented) : EstimateText(job));
  return kDone;
}

int TellJob(const Shell& shell, const SubmitFlags& flags, const v1::Job& job) {
  if (flags.connect.json) {
    *shell.out << Json(job, JsonStyle::kIndented);
  } else {
    *shell.out << Printable(job.name()) << "\n";
    Note(shell, absl::StrCat("watch it with\n  attnprune watch ", job.name(), " --server ",
                             flags.connect.server));
  }
  return kDone;
}

// --- a run, or several to compare ---

void TellRuns(const Shell& shell, const SubmitFlags& flags, const std::vector<v1::Run>& runs) {
  if (flags.connect.json) {
    *shell.out << (runs.size() == 1 ? Json(runs.front(), JsonStyle::kIndented)
                                    : Json(ListOf(runs), JsonStyle::kIndented));
    return;
  }
  for (const v1::Run& run : runs) {
    *shell.out << (flags.validate_only ? EstimateText(run)
                                       : absl::StrCat(Printable(run.name()), "\n"));
  }
  if (!flags.validate_only || runs.size() < 2) return;
  double seconds = 0;
  for (const v1::Run& run : runs) seconds += run.estimate().seconds();
  *shell.out << "all of them: time " << SecondsText(seconds) << " on one idle thread\n";
}

void SayHowToFetch(const Shell& shell, const SubmitFlags& flags, const std::vector<v1::Run>& runs) {
  for (const v1::Run& run : runs) {
    Note(shell, absl::StrCat("watch it with\n  attnprune watch ", run.name(), " --server ",
                             flags.connect.server, "\nand write its model with\n  attnprune fetch ",
                             run.name(), " --output DIR --server ", flags.connect.server));
  }
}

int SubmitWholeModel(const Shell& shell, const SubmitFlags& given) {
  SubmitFlags flags = given;
  flags.prune.job = given.job;
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, flags.prune, CompletePruneFlags(flags.prune));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const std::vector<RunPlaces> places, PlacesOf(flags.prune));
  JobTensors tensors;
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, std::vector<v1::Run> runs, MakeRuns(flags.prune, tensors));
  TellNotes(shell, tensors);
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, runs,
                           RunsByTime(shell, *client, flags.prune, std::move(runs), /*threads=*/1));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const std::vector<v1::Run> submitted,
                           SubmitRuns(shell, *client, runs, tensors, ModeOf(flags)));
  if (!flags.watch) {
    TellRuns(shell, flags, submitted);
    if (!flags.validate_only && !flags.connect.json) SayHowToFetch(shell, flags, submitted);
    return kDone;
  }
  const PrunedModels models =
      FollowRuns(shell, *client, submitted, places, flags.job.quiet, flags.connect.json);
  if (!models.goes_on.has_value()) return models.exit_code;
  return SayRunGoesOn(shell, models, flags.connect.server);
}

// --- one job ---

int RunOneJob(const Shell& shell, const SubmitFlags& flags) {
  JobTensors tensors;
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const v1::Job job, MakeJob(flags.job, tensors));
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckJobOutputs(flags.job));
  TellNotes(shell, tensors);
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Job created,
                           Submit(shell, *client, job, tensors, ModeOf(flags)));
  if (flags.validate_only) return TellEstimate(shell, flags, created);
  if (!flags.watch) return TellJob(shell, flags, created);
  Note(shell, created.name());
  const FollowResult result = Follow(shell, *client, created, flags.job, flags.connect.json);
  if (!result.interrupted) return result.exit_code;
  return SayHowToResume(shell, created.name(), flags.connect.server, flags.job.tensorboard,
                        result.last_sequence);
}

int Run(const Shell& shell, const SubmitFlags& given) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, Check(given));
  if (given.run) return SubmitWholeModel(shell, given);
  ATTNPRUNE_ASSIGN_OR_EXIT(CaptureError, const CapturedInput captured,
                           CaptureInput(shell, given.job, /*threads=*/0, /*memory_budget=*/0));
  SubmitFlags flags = given;
  flags.job = captured.flags;
  return RunOneJob(shell, flags);
}

}  // namespace

void AddSubmitCommand(Command& program) {
  Command command =
      program.AddCommand("submit", "Give a job to a server, or a run; prints its name");
  SubmitFlags& flags = command.Runs<SubmitFlags>(Run);
  AddConnectFlags(command, flags.connect);
  AddJobFlags(command, flags.job);
  command.Add("--run", flags.run,
              "Prune the whole model of --model in one run, as prune does. What follows is for "
              "runs; flags that say a layer are not");
  AddOnlyRunFlags(command, flags.prune);
  command.Add("--watch", flags.watch, "Watch it to its end, then compare and save");
  command.Add("--validate-only", flags.validate_only,
              "Check it and print what it will need; create nothing", {.excludes = "--watch"});
}

}  // namespace attnprune::cli
