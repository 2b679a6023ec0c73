// attnprune delete: forget a job that has ended.
#include <CLI/CLI.hpp>
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

void AddDeleteCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<DeleteFlags>();
  CLI::App* command = app.add_subcommand("delete", "Forget a job that has ended");
  AddConnectFlags(*command, flags->connect);
  command->add_option("NAME", flags->name, "The job")->required();
  command->callback(
      [action, flags] { *action = [flags](const Shell& shell) { return Run(shell, *flags); }; });
}

}  // namespace attnprune::cli
