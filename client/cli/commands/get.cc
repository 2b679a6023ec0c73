// attnprune get: one job as it is now.
#include <memory>

#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/views/format.h"
#include "client/cli/views/result_table.h"

namespace attnprune::cli {
namespace {

struct GetFlags {
  ConnectFlags connect;
  std::string name;
};

int Run(const Shell& shell, const GetFlags& flags) {
  const auto client = Connect(shell, flags.connect);
  if (!client.ok()) return UsageError(shell, client.status());
  const auto job = (*client)->GetJob(JobName(flags.name));
  if (!job.ok()) return ServerError(shell, job.status());
  *shell.out << (flags.connect.json ? Json(*job, JsonStyle::kIndented) : JobText(*job));
  return kDone;
}

}  // namespace

void AddGetCommand(Command& program) {
  auto flags = std::make_shared<GetFlags>();
  Command command = program.AddCommand("get", "Show a job and its results");
  AddConnectFlags(command, flags->connect);
  command.Add("NAME", flags->name, "The job").Required();
  command.Run([flags](const Shell& shell) { return Run(shell, *flags); });
}

}  // namespace attnprune::cli
