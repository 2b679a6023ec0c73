// attnprune resume: a run that has failed or was cancelled goes on behind its last result.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/jobs/chosen.h"
#include "client/cli/jobs/server_runs.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

struct ResumeFlags {
  ConnectFlags connect;
  ChoiceFlags choice;
  bool detach = false, quiet = false;
};

int FollowResumed(const Shell& shell, client::Client& client, const ResumeFlags& flags,
                  const v1::Run& run) {
  const FollowedRunResult result =
      FollowRunToEnd(shell, client, run, flags.quiet ? Progress::kQuiet : Progress::kShown,
                     flags.connect.json ? WatchOutput::kEvents : WatchOutput::kPeople);
  if (!result.interrupted) return result.exit_code;
  return SayHowToResume(shell, run.name(), flags.connect.server, "", result.last_sequence);
}

// All are queued before the first is followed.
int Run(const Shell& shell, const ResumeFlags& flags) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckChoice(flags.choice));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  std::vector<v1::Run> resumed;
  const auto resume = [&](const std::string& name) {
    ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Run run, client->ResumeRun(name));
    resumed.push_back(run);
    if (flags.detach) {
      *shell.out << (flags.connect.json
                         ? Json(run, JsonStyle::kIndented)
                         : absl::StrCat(run.name(), "  ", StateText(run.state()), "\n"));
    }
    return int{kDone};
  };
  const Findable findable = {.states = {v1::FAILED, v1::CANCELLED}, .jobs = false};
  int code = ForEachChosen(shell, *client, flags.choice, findable, resume);
  if (flags.detach) return code;
  for (const v1::Run& run : resumed) {
    const int ended = FollowResumed(shell, *client, flags, run);
    if (code == kDone) code = ended;
    if (ended == kInterrupted) break;
  }
  return code;
}

}  // namespace

void AddResumeCommand(Command& program) {
  Command command = program.AddCommand("resume",
                                       "Put runs that have failed or were cancelled back into the "
                                       "queue, where they go on behind their "
                                       "last result, and follow them");
  ResumeFlags& flags = command.Runs<ResumeFlags>(Run);
  AddConnectFlags(command, flags.connect);
  AddChoiceFlags(command, flags.choice, "runs that have failed or were cancelled");
  command.Add("--detach", flags.detach, "Do not follow them");
  command.Add("--quiet", flags.quiet, "No progress: only states, warnings and results");
}

}  // namespace attnprune::cli
