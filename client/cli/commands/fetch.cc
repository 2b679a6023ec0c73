// attnprune fetch: a method's pruned weights and masks as files.
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/save_results.h"
#include "client/cli/files/save_run.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/flags/prune_flags.h"
#include "client/cli/jobs/chosen.h"
#include "client/cli/views/format.h"
#include "client/export/path_part.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr char kName[] = "{name}";

struct FetchFlags {
  ConnectFlags connect;
  ChoiceFlags choice;
  std::string weights, model;
  SaveFlags save;
  FormatFlag format;
};

absl::Status CheckRunFlags(const FetchFlags& flags) {
  if (!flags.weights.empty() || !flags.save.method.empty()) {
    return absl::InvalidArgumentError(
        "--weights and --method are for jobs: a run has one result, of --model DIR");
  }
  return absl::OkStatus();
}

int FetchRun(const Shell& shell, client::Client& client, const FetchFlags& flags,
             const std::string& name) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckRunFlags(flags));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Run run, client.GetRun(name));
  if (run.state() != v1::SUCCEEDED) {
    return LocalError(shell, absl::FailedPreconditionError(absl::StrCat(
                                 run.name(), " has no model yet: it is ", StateText(run.state()))));
  }
  RunPlaces places = {.model = flags.model,
                      .output = flags.save.output,
                      .masks = flags.save.masks,
                      .format = FormatOf(flags.format),
                      .overwrite = flags.save.overwrite};
  if (places.model.empty()) {
    ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, places.model, LabelledModel(run));
  }
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckRunPlaces({places}, {}));
  std::ostream& told = flags.connect.json ? *shell.err : *shell.out;
  const int code = SaveRun(shell, told, client, run, places);
  if (code == kDone && flags.connect.json) *shell.out << Json(run, JsonStyle::kIndented);
  return code;
}

int FetchJob(const Shell& shell, client::Client& client, const FetchFlags& flags,
             const std::string& name) {
  if (flags.format.bitmask()) {
    return UsageError(shell, absl::InvalidArgumentError("--format is for runs"));
  }
  SaveFlags save = flags.save;
  save.source = flags.model.empty() ? flags.weights : flags.model;
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Job job, client.GetJob(name));
  std::ostream& told = flags.connect.json ? *shell.err : *shell.out;
  const int code = SaveResults(shell, told, client, job, save);
  if (code == kDone && flags.connect.json) *shell.out << Json(job, JsonStyle::kIndented);
  return code;
}

// Files of several would be written over each other.
absl::Status Check(const FetchFlags& flags) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckChoice(flags.choice));
  if (flags.save.output.empty() && flags.save.masks.empty()) {
    return absl::InvalidArgumentError("--output or --save-mask is required");
  }
  if (flags.choice.names.size() == 1) return absl::OkStatus();
  for (const auto& [flag, path] :
       {std::pair("--output", flags.save.output), std::pair("--save-mask", flags.save.masks)}) {
    if (path.empty() || absl::StrContains(path, kName)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " must have ", kName, " in it where several are fetched, got ", path));
  }
  return absl::OkStatus();
}

int Run(const Shell& shell, const FetchFlags& flags) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, Check(flags));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  const auto fetch = [&](const std::string& name) {
    FetchFlags one = flags;
    const std::string part = exporting::PathPart(name.substr(name.find('/') + 1));
    for (std::string* path : {&one.save.output, &one.save.masks}) {
      *path = absl::StrReplaceAll(*path, {{kName, part}});
    }
    return NamesRun(name) ? FetchRun(shell, *client, one, name)
                          : FetchJob(shell, *client, one, name);
  };
  return ForEachChosen(shell, *client, flags.choice, {.states = {v1::SUCCEEDED}}, fetch);
}

}  // namespace

void AddFetchCommand(Command& program) {
  Command command = program.AddCommand(
      "fetch", "Save a method's pruned weights and masks, or the model that a run has pruned");
  FetchFlags& flags = command.Runs<FetchFlags>(Run);
  AddConnectFlags(command, flags.connect);
  AddChoiceFlags(command, flags.choice, "those that have succeeded");
  command.Add("--method", flags.save.method, "As the job labels it; default: the best");
  command.Add("--output", flags.save.output,
              "File for the pruned weights; {method} in it: one for each method; {name} in it: the "
              "job's or run's own, for several. Of a run: folder for the model with its report",
              {.type = "FILE"});
  command.Add("--save-mask", flags.save.masks, "File for the masks", {.type = "FILE"});
  AddOverwriteFlag(command, flags.save.overwrite);
  command.Add("--weights", flags.weights,
              "The file that was pruned, for all else that is in it; default: where it "
              "was when the job was submitted",
              {.type = "FILE.safetensors"});
  command.Add("--model", flags.model, "The same for a folder",
              {.type = "DIR", .excludes = "--weights"});
  AddFormatFlag(command, flags.format);
}

}  // namespace attnprune::cli
