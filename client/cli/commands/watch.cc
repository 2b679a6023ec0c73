// attnprune watch: follow a job or a run. Leaving never ends it.
#include <string>

#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/jobs/server_runs.h"

namespace attnprune::cli {
namespace {

struct WatchFlags {
  ConnectFlags connect;
  std::string name;
  WatchWishes wishes;
  int64_t after = 0;
};

WatchOutput OutputOf(const WatchFlags& flags) {
  return flags.connect.json ? WatchOutput::kEvents : WatchOutput::kPeople;
}

int WatchRun(const Shell& shell, const WatchFlags& flags) {
  if (!flags.wishes.plot.empty() || !flags.wishes.tensorboard.empty()) {
    return UsageError(shell, absl::InvalidArgumentError(
                                 "--plot and --tensorboard are for jobs: a run has no curves"));
  }
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Run run, client->GetRun(RunName(flags.name)));
  const FollowedRunResult result =
      FollowRunToEnd(shell, *client, run, flags.wishes.quiet ? Progress::kQuiet : Progress::kShown,
                     OutputOf(flags), flags.after);
  if (!result.interrupted) return result.exit_code;
  return SayHowToResume(shell, run.name(), flags.connect.server, "", result.last_sequence);
}

int Run(const Shell& shell, const WatchFlags& flags) {
  if (NamesRun(flags.name)) return WatchRun(shell, flags);
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Job job, client->GetJob(JobName(flags.name)));
  const FollowResult result =
      FollowToEnd(shell, *client, job, flags.wishes, OutputOf(flags), flags.after);
  if (!result.interrupted) return result.exit_code;
  return SayHowToResume(shell, job.name(), flags.connect.server, flags.wishes.tensorboard,
                        result.last_sequence);
}

}  // namespace

void AddWatchCommand(Command& program) {
  Command command = program.AddCommand(
      "watch", "Follow a job or run from its beginning. Ctrl-C leaves it running (exit code 130)");
  WatchFlags& flags = command.Runs<WatchFlags>(Run);
  AddConnectFlags(command, flags.connect);
  command.Add("NAME", flags.name, "The job or run", {.required = true});
  command.Add("--after", flags.after, "Only events after this sequence",
              {.show_default = true, .at_least = 0});
  command.Add("--plot", flags.wishes.plot, "File for the curves of loss and error",
              {.type = "FILE.svg"});
  command.Add("--tensorboard", flags.wishes.tensorboard,
              "Folder for TensorBoard, written while you watch: a run for each method",
              {.type = "DIR", .excludes = "--after"});
  command.Add("--quiet", flags.wishes.quiet, "No progress: only states, warnings and results");
}

}  // namespace attnprune::cli
