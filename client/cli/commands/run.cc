// attnprune run: a server of its own for one job. No set-up, nothing left but the files asked for.
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/save_results.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/captured_input.h"
#include "client/cli/jobs/free_room.h"
#include "client/cli/jobs/make_job.h"
#include "client/cli/jobs/own_server.h"
#include "client/cli/jobs/same_command.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/shell/printable.h"
#include "client/cli/views/format.h"
#include "client/cli/views/result_table.h"

namespace attnprune::cli {
namespace {

struct RunFlags {
  JobFlags job;
  OwnServerFlags own;
  bool json = false;
};

// The files of the results, in addition to what they replace.
absl::Status CheckRoomForFiles(const JobFlags& job) {
  const SaveFlags save = SaveFlagsOf(job);
  if (save.output.empty()) return absl::OkStatus();
  const bool each = WithMethod(save.output, "x") != save.output;
  const auto files = static_cast<int64_t>(each ? job.methods.size() : 1);
  return CheckRoomAt(save.output, files * BytesOf(save.source));
}

// What the same command has left in the folder, or a new job. Returns an exit code, errors told.
int SubmitOrTakeUp(const Shell& shell, const OwnServer& server, const RunFlags& flags,
                   const v1::Job& job, const JobTensors& tensors, v1::Job& created) {
  if (job.labels().contains(kCommandLabel)) {
    ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const auto left, UnfinishedOf(server.client, job));
    if (left.has_value()) {
      NoteGoesOn(shell, left->name());
      created = *left;
      return kDone;
    }
  }
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Job valid,
                           Submit(shell, server.client, job, tensors, SubmitMode::kValidateOnly));
  ATTNPRUNE_EXIT_IF_ERROR(
      LocalError, CheckRoom(server, flags.own, valid.estimate().memory_bytes(), BytesOf(tensors)));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, created,
                           Submit(shell, server.client, job, tensors, SubmitMode::kCreate));
  return kDone;
}

void TellJobEstimate(const Shell& shell, const v1::Job& job, int threads) {
  Note(shell,
       absl::StrCat("job: about ", SecondsText(job.estimate().seconds() / ThreadsOr(threads)), ", ",
                    BytesText(job.estimate().memory_bytes())));
}

// After an interrupt: shows and writes what has ended, without --data-dir the only chance to.
int KeepFinished(const Shell& given, const OwnServer& server, const RunFlags& flags,
                 const std::string& name) {
  const absl::StatusOr<v1::Job> job = server.after.GetJob(name);
  const bool none = !job.ok() || !ResultOf(*job, "").ok();
  if (!flags.own.data_dir.empty() || none) return SayInterrupted(given, flags.own, name);
  Shell shell = given;
  shell.interrupt = {};  // a second one ends the process
  std::ostream& people = flags.json ? *shell.err : *shell.out;
  people << "\n"
         << ResultTable(ForPeople(*job), flags.json ? shell.err_columns : shell.out_columns);
  const SaveFlags save = SaveFlagsOf(flags.job);
  const bool files = !save.output.empty() || !save.masks.empty();
  Note(shell, absl::StrCat("\ninterrupted; ", job->results_size(), " of ", job->methods_size(),
                           files ? " methods had ended, whose results are written"
                                 : " methods had ended; --output keeps their weights"));
  const int saved = SaveResults(shell, people, server.after, *job, save);
  people << std::flush;
  return saved == kDone ? int{kInterrupted} : saved;
}

Worked RunOneJob(const Shell& shell, const OwnServer& server, const RunFlags& flags,
                 const v1::Job& job, const JobTensors& tensors) {
  v1::Job created;
  const int submitted = SubmitOrTakeUp(shell, server, flags, job, tensors, created);
  if (submitted != kDone) return {.exit_code = submitted};
  if (flags.job.tokens.given() && !flags.job.quiet) {
    TellJobEstimate(shell, created, flags.own.threads);
  }
  const FollowResult result = Follow(shell, server.client, created, flags.job, flags.json);
  if (result.interrupted) return {.exit_code = KeepFinished(shell, server, flags, created.name())};
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
  ATTNPRUNE_EXIT_IF_ERROR(LocalError, CheckRoomForFiles(flags.job));
  TellNotes(shell, tensors);
  return OnServerOfItsOwn(shell, flags.own, [&](const OwnServer& server) {
    return RunOneJob(shell, server, flags, job, tensors);
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
