// attnprune delete: forget a job that has ended.
#include <memory>

#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"

namespace attnprune::cli {
namespace {

struct DeleteFlags {
  ConnectFlags connect;
  std::string name;
};

int Run(const Shell& shell, const DeleteFlags& flags) {
  const auto client = Connect(shell, flags.connect);
  if (!client.ok()) return UsageError(shell, client.status());
  const absl::Status status = (*client)->DeleteJob(JobName(flags.name));
  if (!status.ok()) return ServerError(shell, status);
  *shell.out << (flags.connect.json ? "{}" : JobName(flags.name) + "  deleted") << "\n";
  return kDone;
}

}  // namespace

void AddDeleteCommand(Command& program) {
  auto flags = std::make_shared<DeleteFlags>();
  Command command = program.AddCommand("delete", "Forget a job that has ended");
  AddConnectFlags(command, flags->connect);
  command.Add("NAME", flags->name, "The job").Required();
  command.Run([flags](const Shell& shell) { return Run(shell, *flags); });
}

}  // namespace attnprune::cli
