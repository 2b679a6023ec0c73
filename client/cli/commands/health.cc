// attnprune health: for containers and scripts.
#include <memory>

#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"

namespace attnprune::cli {
namespace {

int CheckHealth(const Shell& shell, const ConnectFlags& flags) {
  const auto client = Connect(shell, flags);
  if (!client.ok()) return UsageError(shell, client.status());
  const absl::Status status = (*client)->CheckHealth();
  if (!status.ok()) return ServerError(shell, status);
  *shell.out << (flags.json ? "{\"status\":\"SERVING\"}" : "serving") << "\n";
  return kDone;
}

}  // namespace

void AddHealthCommand(Command& program) {
  auto flags = std::make_shared<ConnectFlags>();
  flags->patience = absl::ZeroDuration();
  // Less than probes wait (deploy/Dockerfile: 3 s), so that they have the reason and not a kill.
  flags->timeout = absl::Seconds(2);
  Command command =
      program.AddCommand("health", "Exit with 0 if the server serves, with 3 if it does not");
  AddConnectFlags(command, *flags);
  AddDuration(command, "--timeout", *flags->timeout,
              "How long to wait for the answer; after that the server does not serve");
  command.Run([flags](const Shell& shell) { return CheckHealth(shell, *flags); });
}

}  // namespace attnprune::cli
