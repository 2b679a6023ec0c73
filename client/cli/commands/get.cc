// attnprune get: one job as it is now.
#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/output/format.h"
#include "client/cli/output/result_table.h"

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

void AddGetCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<GetFlags>();
  CLI::App* command = app.add_subcommand("get", "Show a job and its results");
  AddConnectFlags(*command, flags->connect);
  command->add_option("NAME", flags->name, "The job")->required();
  command->callback(
      [action, flags] { *action = [flags](const Shell& shell) { return Run(shell, *flags); }; });
}

}  // namespace attnprune::cli
