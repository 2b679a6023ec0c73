// attnprune watch: follow jobs or runs. Leaving never ends it.
#include <string>

#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/jobs/chosen.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/jobs/server_runs.h"
#include "client/cli/shell/printable.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

struct WatchFlags {
  ConnectFlags connect;
  ChoiceFlags choice;
  WatchWishes wishes;
  int64_t after = 0;
};

WatchOutput OutputOf(const WatchFlags& flags) {
  return flags.connect.json ? WatchOutput::kEvents : WatchOutput::kPeople;
}

int WatchRun(const Shell& shell, client::Client& client, const WatchFlags& flags,
             const std::string& name) {
  if (!flags.wishes.tensorboard.empty()) {
    return UsageError(shell,
                      absl::InvalidArgumentError("--tensorboard is for jobs: a run has no curves"));
  }
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Run run, client.GetRun(name));
  const FollowedRunResult result =
      FollowRunToEnd(shell, client, run, flags.wishes.quiet ? Progress::kQuiet : Progress::kShown,
                     OutputOf(flags), flags.after);
  if (!result.interrupted) return result.exit_code;
  return SayHowToResume(shell, run.name(), flags.connect.server, "", result.last_sequence);
}

int WatchJob(const Shell& shell, client::Client& client, const WatchFlags& flags,
             const std::string& name) {
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Job job, client.GetJob(name));
  const FollowResult result =
      FollowToEnd(shell, client, job, flags.wishes, OutputOf(flags), flags.after);
  if (!result.interrupted) return result.exit_code;
  return SayHowToResume(shell, job.name(), flags.connect.server, flags.wishes.tensorboard,
                        result.last_sequence);
}

absl::Status Check(const WatchFlags& flags) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckChoice(flags.choice));
  const bool one = flags.choice.names.size() == 1;
  if (one || (flags.after == 0 && !flags.connect.json)) return absl::OkStatus();
  return absl::InvalidArgumentError("--after and --json are for one NAME");
}

int Run(const Shell& shell, const WatchFlags& flags) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, Check(flags));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  const bool one_name = flags.choice.names.size() == 1;
  const auto watch = [&](const std::string& name) {
    if (!one_name) *shell.out << Printable(name) << std::endl;
    return NamesRun(name) ? WatchRun(shell, *client, flags, name)
                          : WatchJob(shell, *client, flags, name);
  };
  return ForEachChosen(shell, *client, flags.choice, {.states = {v1::QUEUED, v1::RUNNING}}, watch);
}

}  // namespace

void AddWatchCommand(Command& program) {
  Command command = program.AddCommand(
      "watch",
      "Follow jobs or runs, one after the other, from their beginning. Ctrl-C leaves them running "
      "(exit code 130)");
  WatchFlags& flags = command.Runs<WatchFlags>(Run);
  AddConnectFlags(command, flags.connect);
  AddChoiceFlags(command, flags.choice, "those that have not ended");
  command.Add("--after", flags.after, "Only events after this sequence",
              {.show_default = true, .at_least = 0});
  command.Add("--tensorboard", flags.wishes.tensorboard,
              "Folder for TensorBoard, written while you watch: a run for each method",
              {.type = "DIR", .excludes = "--after"});
  command.Add("--quiet", flags.wishes.quiet, "No progress: only states, warnings and results");
}

}  // namespace attnprune::cli
