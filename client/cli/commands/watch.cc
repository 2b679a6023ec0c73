// attnprune watch: follow a job. Leaving never ends it.
#include <memory>
#include <string>

#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/jobs/watch_session.h"
#include "client/cli/views/result_table.h"

namespace attnprune::cli {
namespace {

struct WatchFlags {
  ConnectFlags connect;
  std::string name, plot, tensorboard;
  int64_t after = 0;
};

int Run(const Shell& shell, const WatchFlags& flags) {
  const auto client = Connect(shell, flags.connect);
  if (!client.ok()) return UsageError(shell, client.status());
  const auto job = (*client)->GetJob(JobName(flags.name));
  if (!job.ok()) return ServerError(shell, job.status());
  WatchSession session(shell, *job,
                       flags.connect.json ? WatchOutput::kEvents : WatchOutput::kPeople);
  const absl::Status recorded = session.WriteTensorBoard(flags.tensorboard);
  if (!recorded.ok()) return UsageError(shell, recorded);
  const auto ended = session.Run(**client, flags.after);
  if (absl::IsCancelled(ended.status())) {
    return SayHowToResume(shell, job->name(), flags.connect.server,
                          ResumeFlag(flags.tensorboard, session.last_sequence()));
  }
  if (!ended.ok()) return ServerError(shell, ended.status());
  session.people() << "\n" << ResultTable(*ended) << std::flush;
  const int code = ExitCodeOf(shell, *ended);
  const int plotted = session.SaveCurves(flags.plot);
  session.people() << std::flush;
  return code == kDone ? plotted : code;
}

}  // namespace

void AddWatchCommand(Command& program) {
  auto flags = std::make_shared<WatchFlags>();
  Command command = program.AddCommand(
      "watch", "Follow a job from its beginning. Ctrl-C leaves it running (exit code 130)");
  AddConnectFlags(command, flags->connect);
  command.Add("NAME", flags->name, "The job").Required();
  command.Add("--after", flags->after, "Only events after this sequence").AtLeast(0).ShowDefault();
  command.Add("--plot", flags->plot, "File for the curves of loss and error").Type("FILE.svg");
  command
      .Add("--tensorboard", flags->tensorboard,
           "Folder for TensorBoard, written while you watch: a run for each method")
      .Type("DIR")
      .Excludes("--after");
  command.Run([flags](const Shell& shell) { return Run(shell, *flags); });
}

}  // namespace attnprune::cli
