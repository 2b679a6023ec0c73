// attnprune run: a server of its own for one job, or one for each layer of a model. No set-up,
// nothing left but the files asked for.
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/captured_input.h"
#include "client/cli/jobs/embedded_server.h"
#include "client/cli/jobs/make_job.h"
#include "client/cli/jobs/model_run.h"
#include "client/cli/jobs/same_command.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

struct RunFlags {
  JobFlags job;
  std::string data_dir;  // empty: a temporary folder
  int threads = 0;
  int64_t memory_budget = 0;  // bytes; 0: the machine's memory
  bool json = false;
};

// what: the job or jobs that may go on.
int SayInterrupted(const Shell& shell, const RunFlags& flags, const std::string& what) {
  Note(shell, flags.data_dir.empty()
                  ? "\ninterrupted; nothing is kept"
                  : absl::StrCat("\ninterrupted; ", what, " goes on with\n",
                                 "  attnprune-server --data-dir ", flags.data_dir,
                                 "\nor with the same command again"));
  return kInterrupted;
}

struct Worked {
  int exit_code = 0;
  bool unsaved = false;  // results are there that could not be written
};
using Work = std::function<Worked(client::Client& client)>;

void NoteGoesOn(const Shell& shell, const std::string& what) {
  Note(shell, absl::StrCat("note: goes on with ", what, ", which the same command has left here"));
}

absl::StatusOr<v1::Job> SubmitOrTakeUp(const Shell& shell, client::Client& client,
                                       const v1::Job& job, const JobTensors& tensors) {
  if (job.labels().contains(kCommandLabel)) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto left, UnfinishedOf(client, job));
    if (left.has_value()) {
      NoteGoesOn(shell, left->name());
      return *left;
    }
  }
  return Submit(shell, client, job, tensors, SubmitMode::kCreate);
}

void TellJobEstimate(const Shell& shell, const v1::Job& job, int threads) {
  Note(shell,
       absl::StrCat("job: about ", SecondsText(job.estimate().seconds() / ThreadsOr(threads)), ", ",
                    BytesText(job.estimate().memory_bytes())));
}

Worked RunOneJob(const Shell& shell, client::Client& client, const RunFlags& flags,
                 const v1::Job& job, const JobTensors& tensors) {
  const absl::StatusOr<v1::Job> created = SubmitOrTakeUp(shell, client, job, tensors);
  if (!created.ok()) return {.exit_code = ServerError(shell, created.status())};
  if (flags.job.tokens.given() && !flags.job.quiet) TellJobEstimate(shell, *created, flags.threads);
  const FollowResult result = Follow(shell, client, *created, flags.job, flags.json);
  if (result.interrupted) return {.exit_code = SayInterrupted(shell, flags, created->name())};
  return {.exit_code = result.exit_code, .unsaved = result.unsaved};
}

absl::Status TakeUpIfLeft(const Shell& shell, client::Client& client, ModelRun& run) {
  if (!run.jobs.front().labels().contains(kCommandLabel)) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto left, UnfinishedOf(client, run.jobs.front()));
  if (!left.has_value()) return absl::OkStatus();
  TakeUp(*left, run);
  NoteGoesOn(shell, LabelOf(run));
  return absl::OkStatus();
}

Worked RunAllLayers(const Shell& shell, client::Client& client, const RunFlags& flags,
                    ModelRun& run, const JobTensors& tensors) {
  if (const absl::Status taken_up = TakeUpIfLeft(shell, client, run); !taken_up.ok()) {
    return {.exit_code = ServerError(shell, taken_up)};
  }
  const SubmittedRun submitted = SubmitModelRun(shell, client, run, tensors, SubmitMode::kCreate);
  if (!submitted.status.ok()) return {.exit_code = ServerError(shell, submitted.status)};
  const FollowedRun followed = FollowModelRun(shell, client, submitted.jobs, flags.job, flags.json);
  if (followed.interrupted) return {.exit_code = SayInterrupted(shell, flags, LabelOf(run))};
  return {.exit_code = followed.exit_code, .unsaved = followed.unsaved};
}

// Does the work on a server that ends with it.
int OnServerOfItsOwn(const Shell& shell, const RunFlags& flags, const Work& work) {
  ATTNPRUNE_ASSIGN_OR_EXIT(
      LocalError, const auto server,
      EmbeddedServer::Start(flags.data_dir, flags.threads, flags.memory_budget));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const auto client,
                           Connect(shell, {.server = server->address()}));
  const Worked worked = work(*client);
  if (!worked.unsaved) return worked.exit_code;
  Note(shell, absl::StrCat("note: the results are kept; start\n  attnprune-server --data-dir ",
                           ShellWord(server->KeepFolder()),
                           "\nand write them elsewhere with attnprune fetch or attnprune merge"));
  return worked.exit_code;
}

int Run(const Shell& shell, const RunFlags& given) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckMethods(given.job));
  ATTNPRUNE_ASSIGN_OR_EXIT(CaptureError, const CapturedInput captured,
                           CaptureInput(shell, given.job, given.threads, given.memory_budget));
  RunFlags flags = given;
  flags.job = captured.flags;
  JobTensors tensors;
  if (flags.job.layer == kAllLayers) {
    ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, ModelRun run, MakeModelRun(flags.job, tensors));
    if (!flags.data_dir.empty()) LabelCommand(run);
    TellNotes(shell, tensors);
    return OnServerOfItsOwn(shell, flags, [&](client::Client& client) {
      return RunAllLayers(shell, client, flags, run, tensors);
    });
  }
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, v1::Job job, MakeJob(flags.job, tensors));
  if (!flags.data_dir.empty()) LabelCommand(job);
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckJobOutputs(flags.job));
  TellNotes(shell, tensors);
  return OnServerOfItsOwn(shell, flags, [&](client::Client& client) {
    return RunOneJob(shell, client, flags, job, tensors);
  });
}

}  // namespace

void AddRunCommand(Command& program) {
  Command command = program.AddCommand(
      "run", "Prune with a server of its own: submit, watch, compare, save. No set-up");
  RunFlags& flags = command.Runs<RunFlags>(Run);
  AddJobFlags(command, flags.job);
  command.Add("--data-dir", flags.data_dir,
              "Keep the server's folder here. Interrupted, the same command goes on with its job",
              {.type = "DIR"});
  command.Add("--threads", flags.threads, "That solve the job; 0: one a core",
              {.show_default = true, .between = {{0, 1024}}});
  command.Add("--memory-budget", flags.memory_budget,
              "Memory that the job may take, such as 2GiB: dense attention that does not fit is "
              "rebuilt at every step, tokens that do not fit even so stay in a temporary file; "
              "0: the machine's memory",
              {.type = "BYTES", .default_text = "0", .bytes = true, .at_least = 0});
  AddJsonFlag(command, flags.json);
}

}  // namespace attnprune::cli
