// attnprune merge: one checkpoint from the results of several jobs.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/merge_results.h"
#include "client/cli/files/output_check.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/views/format.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int kMostJobs = 100'000;

struct MergeFlags {
  ConnectFlags connect;
  std::vector<std::string> names, labels;
  SaveFlags save;
};

// An error of flags, or of a model that cannot be read, before any server is asked.
absl::Status Check(const MergeFlags& flags) {
  if (flags.names.empty() == flags.labels.empty()) {
    return absl::InvalidArgumentError("either names of jobs or --label KEY=VALUE is required");
  }
  for (const std::string& name : flags.names) {
    if (!NamesRun(name)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "NAME must be a job's: attnprune fetch writes the model of a run, got ", name));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckMergeOutput(flags.save.source, flags.save.output));
  ATTNPRUNE_RETURN_IF_ERROR(Checkpoint::Open(flags.save.source).status());
  return CheckOutputs(OutputsOf(flags.save.output, flags.save.masks, flags.save.source),
                      FilesOf(flags.save.source));
}

absl::StatusOr<std::vector<v1::Job>> FindJobs(client::Client& client, const MergeFlags& flags,
                                              const v1::ListJobsRequest& request) {
  if (flags.names.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListJobsResponse list,
                               ListJobs(client, request, kMostJobs));
    return std::vector<v1::Job>(list.jobs().begin(), list.jobs().end());
  }
  std::vector<v1::Job> jobs;
  for (const std::string& name : flags.names) {
    ATTNPRUNE_ASSIGN_OR_RETURN(jobs.emplace_back(), client.GetJob(JobName(name)));
  }
  return jobs;
}

int Run(const Shell& shell, const MergeFlags& flags) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, Check(flags));
  v1::ListJobsRequest request;
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, ParseLabels(flags.labels, request.mutable_labels()));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const std::vector<v1::Job> jobs,
                           FindJobs(*client, flags, request));
  if (jobs.empty()) {
    return UsageError(shell, absl::NotFoundError(absl::StrCat(
                                 "no job has the label ", absl::StrJoin(flags.labels, " and "))));
  }
  std::ostream& told = flags.connect.json ? *shell.err : *shell.out;
  const int code = MergeResults(shell, told, *client, jobs, flags.save);
  if (code == kDone && flags.connect.json) *shell.out << Json(ListOf(jobs), JsonStyle::kIndented);
  return code;
}

}  // namespace

void AddMergeCommand(Command& program) {
  Command command =
      program.AddCommand("merge", "Write one checkpoint from the results of several jobs");
  MergeFlags& flags = command.Runs<MergeFlags>(Run);
  AddConnectFlags(command, flags.connect);
  command.Add("NAME", flags.names, "The jobs, unless --label finds them");
  command.Add("--label", flags.labels, "All jobs with this label. Repeatable",
              {.type = "KEY=VALUE", .repeatable = true});
  command.Add("--model", flags.save.source, "The folder, or file, that was pruned",
              {.type = "DIR", .required = true});
  command.Add("--output", flags.save.output,
              "Folder for the whole model, sharded as it was; {method} in it: one for each "
              "method",
              {.type = "DIR", .required = true});
  command.Add("--method", flags.save.method,
              "As the jobs label it; default: each job's best by held-out (without held-out "
              "data: calibration) error");
  command.Add("--save-mask", flags.save.masks, "File for the masks of all jobs", {.type = "FILE"});
  AddOverwriteFlag(command, flags.save.overwrite);
}

}  // namespace attnprune::cli
