// attnprune run: a server of its own for one job. No set-up, nothing left but the files asked for.
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/captured_input.h"
#include "client/cli/jobs/make_job.h"
#include "client/cli/jobs/own_server.h"
#include "client/cli/jobs/same_command.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

struct RunFlags {
  JobFlags job;
  OwnServerFlags own;
  bool json = false;
};

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
  if (flags.job.tokens.given() && !flags.job.quiet)
    TellJobEstimate(shell, *created, flags.own.threads);
  const FollowResult result = Follow(shell, client, *created, flags.job, flags.json);
  if (result.interrupted) return {.exit_code = SayInterrupted(shell, flags.own, created->name())};
  return {.exit_code = result.exit_code, .unsaved = result.unsaved};
}

int Run(const Shell& shell, const RunFlags& given) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckMethods(given.job));
  ATTNPRUNE_ASSIGN_OR_EXIT(
      CaptureError, const CapturedInput captured,
      CaptureInput(shell, given.job, given.own.threads, given.own.memory_budget));
  RunFlags flags = given;
  flags.job = captured.flags;
  JobTensors tensors;
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, v1::Job job, MakeJob(flags.job, tensors));
  if (!flags.own.data_dir.empty()) LabelCommand(job);
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckJobOutputs(flags.job));
  TellNotes(shell, tensors);
  return OnServerOfItsOwn(shell, flags.own, [&](client::Client& client) {
    return RunOneJob(shell, client, flags, job, tensors);
  });
}

}  // namespace

void AddRunCommand(Command& program) {
  Command command = program.AddCommand(
      "run", "Prune with a server of its own: submit, watch, compare, save. No set-up");
  RunFlags& flags = command.Runs<RunFlags>(Run);
  AddJobFlags(command, flags.job);
  AddOwnServerFlags(command, flags.own,
                    "dense attention that does not fit is rebuilt at every step, tokens that do "
                    "not fit even so stay in a temporary file");
  AddJsonFlag(command, flags.json);
}

}  // namespace attnprune::cli
