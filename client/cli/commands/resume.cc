// attnprune resume: a run that has failed or was cancelled goes on behind its last result.
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/jobs/server_runs.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

struct ResumeFlags {
  ConnectFlags connect;
  std::string name;
  bool detach = false, quiet = false;
};

int Run(const Shell& shell, const ResumeFlags& flags) {
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Run run, client->ResumeRun(RunName(flags.name)));
  if (flags.detach) {
    *shell.out << (flags.connect.json
                       ? Json(run, JsonStyle::kIndented)
                       : absl::StrCat(run.name(), "  ", StateText(run.state()), "\n"));
    return kDone;
  }
  const FollowedRunResult result =
      FollowRunToEnd(shell, *client, run, flags.quiet ? Progress::kQuiet : Progress::kShown,
                     flags.connect.json ? WatchOutput::kEvents : WatchOutput::kPeople);
  if (!result.interrupted) return result.exit_code;
  return SayHowToResume(shell, run.name(), flags.connect.server, "", result.last_sequence);
}

}  // namespace

void AddResumeCommand(Command& program) {
  Command command = program.AddCommand(
      "resume",
      "Put a run that has failed or was cancelled back into the queue, where it goes on behind its "
      "last result, and follow it");
  ResumeFlags& flags = command.Runs<ResumeFlags>(Run);
  AddConnectFlags(command, flags.connect);
  command.Add("NAME", flags.name, "The run", {.required = true});
  command.Add("--detach", flags.detach, "Do not follow it");
  command.Add("--quiet", flags.quiet, "No progress: only states, warnings and results");
}

}  // namespace attnprune::cli
