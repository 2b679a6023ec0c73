// attnprune fetch: a method's pruned weights and masks as files.
#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/output/format.h"
#include "client/cli/output/save_results.h"

namespace attnprune::cli {
namespace {

struct FetchFlags {
  ConnectFlags connect;
  std::string name, weights, model;
  SaveFlags save;
};

int Run(const Shell& shell, const FetchFlags& flags) {
  if (flags.save.output.empty() && flags.save.masks.empty()) {
    return UsageError(shell, absl::InvalidArgumentError("--output or --save-mask is required"));
  }
  SaveFlags save = flags.save;
  save.source = flags.model.empty() ? flags.weights : flags.model;
  const auto client = Connect(shell, flags.connect);
  if (!client.ok()) return UsageError(shell, client.status());
  const auto job = (*client)->GetJob(JobName(flags.name));
  if (!job.ok()) return ServerError(shell, job.status());
  std::ostream& told = flags.connect.json ? *shell.err : *shell.out;
  const int code = SaveResults(shell, told, **client, *job, save);
  if (code == kDone && flags.connect.json) *shell.out << Json(*job, JsonStyle::kIndented);
  return code;
}

}  // namespace

void AddFetchCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<FetchFlags>();
  CLI::App* command = app.add_subcommand("fetch", "Save a method's pruned weights and masks");
  AddConnectFlags(*command, flags->connect);
  command->add_option("NAME", flags->name, "The job")->required();
  command->add_option("--method", flags->save.method, "As the job labels it; default: the best");
  command
      ->add_option("--output", flags->save.output,
                   "File for the pruned weights; {method} in it: one for each method")
      ->type_name("FILE");
  command->add_option("--save-mask", flags->save.masks, "File for the masks")->type_name("FILE");
  CLI::Option* weights =
      command
          ->add_option("--weights", flags->weights,
                       "The file that was pruned, for all else that is in it; default: where it "
                       "was when the job was submitted")
          ->type_name("FILE.safetensors");
  command->add_option("--model", flags->model, "The same for a folder")
      ->type_name("DIR")
      ->excludes(weights);
  command->callback(
      [action, flags] { *action = [flags](const Shell& shell) { return Run(shell, *flags); }; });
}

}  // namespace attnprune::cli
