// attnprune fetch: a method's pruned weights and masks as files.
#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/save_results.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/views/format.h"

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
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Job job, client->GetJob(JobName(flags.name)));
  std::ostream& told = flags.connect.json ? *shell.err : *shell.out;
  const int code = SaveResults(shell, told, *client, job, save);
  if (code == kDone && flags.connect.json) *shell.out << Json(job, JsonStyle::kIndented);
  return code;
}

}  // namespace

void AddFetchCommand(Command& program) {
  Command command = program.AddCommand("fetch", "Save a method's pruned weights and masks");
  FetchFlags& flags = command.Runs<FetchFlags>(Run);
  AddConnectFlags(command, flags.connect);
  command.Add("NAME", flags.name, "The job", {.required = true});
  command.Add("--method", flags.save.method, "As the job labels it; default: the best");
  command.Add("--output", flags.save.output,
              "File for the pruned weights; {method} in it: one for each method", {.type = "FILE"});
  command.Add("--save-mask", flags.save.masks, "File for the masks", {.type = "FILE"});
  AddOverwriteFlag(command, flags.save.overwrite);
  command.Add("--weights", flags.weights,
              "The file that was pruned, for all else that is in it; default: where it "
              "was when the job was submitted",
              {.type = "FILE.safetensors"});
  command.Add("--model", flags.model, "The same for a folder",
              {.type = "DIR", .excludes = "--weights"});
}

}  // namespace attnprune::cli
