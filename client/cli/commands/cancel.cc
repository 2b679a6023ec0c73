// attnprune cancel: end a job, queued or running.
#include <memory>

#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

struct CancelFlags {
  ConnectFlags connect;
  std::string name;
};

int Run(const Shell& shell, const CancelFlags& flags) {
  const auto client = Connect(shell, flags.connect);
  if (!client.ok()) return UsageError(shell, client.status());
  const auto job = (*client)->CancelJob(JobName(flags.name));
  if (!job.ok()) return ServerError(shell, job.status());
  *shell.out << (flags.connect.json
                     ? Json(*job, JsonStyle::kIndented)
                     : job->name() + "  " + StateText(job->state()) +
                           (job->cancel_requested() ? " (cancel requested)\n" : "\n"));
  return kDone;
}

}  // namespace

void AddCancelCommand(Command& program) {
  auto flags = std::make_shared<CancelFlags>();
  Command command = program.AddCommand("cancel", "End a job within one step");
  AddConnectFlags(command, flags->connect);
  command.Add("NAME", flags->name, "The job").Required();
  command.Run([flags](const Shell& shell) { return Run(shell, *flags); });
}

}  // namespace attnprune::cli
