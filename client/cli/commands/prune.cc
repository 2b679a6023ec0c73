// attnprune prune: a whole model pruned, on a server of its own or on one that is named.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/prune_flags.h"
#include "client/cli/jobs/captured_input.h"
#include "client/cli/jobs/free_room.h"
#include "client/cli/jobs/make_run.h"
#include "client/cli/jobs/own_server.h"
#include "client/cli/jobs/prune_runs.h"
#include "client/cli/jobs/run_by_time.h"
#include "client/cli/jobs/same_command.h"
#include "client/cli/views/format.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

struct PruneCommandFlags {
  PruneFlags prune;
  ConnectFlags connect;
  OwnServerFlags own;
};

// What the command prunes, and where it writes.
struct PruneWork {
  JobTensors tensors;
  std::vector<v1::Run> runs;
  std::vector<RunPlaces> places;
};

absl::Status CheckServerFlags(const PruneCommandFlags& flags) {
  const OwnServerFlags& own = flags.own;
  const bool given = !own.data_dir.empty() || own.threads != 0 || own.memory_budget != 0;
  if (!given || !flags.connect.server_named) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--data-dir, --threads and --memory-budget are of a server of its own, but the "
                   "server is named: ",
                   flags.connect.server));
}

void TellRunEstimates(const Shell& shell, const std::vector<v1::Run>& runs, int threads) {
  for (const v1::Run& run : runs) {
    const v1::RunEstimate& estimate = run.estimate();
    Note(shell, absl::StrCat(run.name(), ": about ", SecondsText(estimate.seconds() / threads),
                             ", memory ", BytesText(estimate.memory_bytes()), ", disk ",
                             BytesText(estimate.disk_bytes())));
  }
}

// What the largest of the runs that are still to be created needs: they go one after the other.
absl::StatusOr<v1::RunEstimate> LargestOf(client::Client& client,
                                          const std::vector<v1::Run>& runs) {
  v1::RunEstimate largest;
  for (const v1::Run& run : runs) {
    if (run.labels().contains(kCommandLabel)) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const auto left, RunOfSameCommand(client, run));
      if (left.has_value()) continue;
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Run valid,
                               CreateRun(client, run, SubmitMode::kValidateOnly));
    const v1::RunEstimate& one = valid.estimate();
    largest.set_memory_bytes(std::max(largest.memory_bytes(), one.memory_bytes()));
    largest.set_disk_bytes(std::max(largest.disk_bytes(), one.disk_bytes()));
  }
  return largest;
}

absl::Status CheckRoomForRuns(const OwnServer& server, const PruneCommandFlags& flags,
                              const v1::RunEstimate& largest, const PruneWork& work) {
  if (largest.memory_bytes() == 0) return absl::OkStatus();  // all of them go on
  const JobFlags& job = flags.prune.job;
  if (!job.output.empty()) {
    const auto models = static_cast<int64_t>(work.runs.size());
    ATTNPRUNE_RETURN_IF_ERROR(CheckRoomAt(job.output, models * BytesOf(job.model)));
  }
  return CheckRoom(server, flags.own, largest.memory_bytes(),
                   BytesOf(work.tensors) + largest.disk_bytes());
}

Worked PruneOnOwn(const Shell& shell, const OwnServer& server, const PruneCommandFlags& flags,
                  const PruneWork& work) {
  client::Client& client = server.client;
  const auto runs = RunsByTime(shell, client, flags.prune, work.runs, ThreadsOr(flags.own.threads));
  if (!runs.ok()) return {.exit_code = ServerError(shell, runs.status())};
  const absl::StatusOr<v1::RunEstimate> largest = LargestOf(client, *runs);
  if (!largest.ok()) return {.exit_code = ServerError(shell, largest.status())};
  const absl::Status room = CheckRoomForRuns(server, flags, *largest, work);
  if (!room.ok()) return {.exit_code = LocalError(shell, room)};
  const auto submitted = SubmitRuns(shell, client, *runs, work.tensors, SubmitMode::kCreate);
  if (!submitted.ok()) return {.exit_code = ServerError(shell, submitted.status())};
  if (!flags.prune.job.quiet) TellRunEstimates(shell, *submitted, ThreadsOr(flags.own.threads));
  const PrunedModels models =
      FollowRuns(shell, client, *submitted, work.places, flags.prune.job.quiet, flags.connect.json);
  if (models.goes_on.has_value()) {
    return {.exit_code = SayInterrupted(shell, flags.own, models.goes_on->name())};
  }
  return {.exit_code = models.exit_code, .unsaved = models.unsaved};
}

int PruneOnServer(const Shell& shell, const PruneCommandFlags& flags, const PruneWork& work) {
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const std::vector<v1::Run> runs,
                           RunsByTime(shell, *client, flags.prune, work.runs, /*threads=*/1));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const std::vector<v1::Run> submitted,
                           SubmitRuns(shell, *client, runs, work.tensors, SubmitMode::kCreate));
  const PrunedModels models =
      FollowRuns(shell, *client, submitted, work.places, flags.prune.job.quiet, flags.connect.json);
  if (!models.goes_on.has_value()) return models.exit_code;
  return SayRunGoesOn(shell, models, flags.connect.server);
}

int Run(const Shell& shell, const PruneCommandFlags& given) {
  PruneCommandFlags flags = given;
  PruneWork work;
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckServerFlags(given));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, flags.prune, CompletePruneFlags(given.prune));
  const bool own = !flags.connect.server_named;
  if (own) ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckRunMethods(flags.prune));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, work.places, PlacesOf(flags.prune));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, work.runs, MakeRuns(flags.prune, work.tensors));
  TellNotes(shell, work.tensors);
  if (!own) return PruneOnServer(shell, flags, work);
  if (!flags.own.data_dir.empty()) {
    for (v1::Run& run : work.runs) LabelCommand(run);
  }
  return OnServerOfItsOwn(shell, flags.own, [&](const OwnServer& server) {
    return PruneOnOwn(shell, server, flags, work);
  });
}

}  // namespace

void AddPruneCommand(Command& program) {
  Command command = program.AddCommand(
      "prune",
      "Prune a whole model, every linear map of it, on a text; with a server of its own, unless "
      "--server names one");
  PruneCommandFlags& flags = command.Runs<PruneCommandFlags>(Run);
  AddPruneFlags(command, flags.prune);
  AddOwnServerFlags(command, flags.own, "hidden states that do not fit stay in files");
  AddConnectFlags(command, flags.connect, "one of its own");
}

}  // namespace attnprune::cli
