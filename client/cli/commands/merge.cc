// attnprune merge: one checkpoint from the results of several jobs.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/merge_results.h"
#include "client/cli/files/output_check.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/labels.h"
#include "client/cli/jobs/job_list.h"
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
  ATTNPRUNE_RETURN_IF_ERROR(CheckMergeOutput(flags.save.source, flags.save.output));
  ATTNPRUNE_RETURN_IF_ERROR(Checkpoint::Open(flags.save.source).status());
  return CheckOutputs(OutputsOf(flags.save.output, flags.save.masks, flags.save.source),
                      FilesOf(flags.save.source));
}

absl::StatusOr<v1::ListJobsRequest> RequestOf(const MergeFlags& flags) {
  v1::ListJobsRequest request;
  ATTNPRUNE_RETURN_IF_ERROR(ParseLabels(flags.labels, request.mutable_labels()));
  return request;
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
  if (const absl::Status status = Check(flags); !status.ok()) return UsageError(shell, status);
  const auto request = RequestOf(flags);
  if (!request.ok()) return UsageError(shell, request.status());
  const auto client = Connect(shell, flags.connect);
  if (!client.ok()) return UsageError(shell, client.status());
  const auto jobs = FindJobs(**client, flags, *request);
  if (!jobs.ok()) return ServerError(shell, jobs.status());
  if (jobs->empty()) {
    return UsageError(shell, absl::NotFoundError(absl::StrCat(
                                 "no job has the label ", absl::StrJoin(flags.labels, " and "))));
  }
  std::ostream& told = flags.connect.json ? *shell.err : *shell.out;
  const int code = MergeResults(shell, told, **client, *jobs, flags.save);
  if (code == kDone && flags.connect.json) *shell.out << Json(ListOf(*jobs), JsonStyle::kIndented);
  return code;
}

}  // namespace

void AddMergeCommand(Command& program) {
  auto flags = std::make_shared<MergeFlags>();
  Command command =
      program.AddCommand("merge", "Write one checkpoint from the results of several jobs");
  AddConnectFlags(command, flags->connect);
  command.Add("NAME", flags->names, "The jobs, unless --label finds them");
  command.Add("--label", flags->labels, "All jobs with this label. Repeatable")
      .Type("KEY=VALUE")
      .Repeatable();
  command.Add("--model", flags->save.source, "The folder, or file, that was pruned")
      .Type("DIR")
      .Required();
  command
      .Add("--output", flags->save.output,
           "Folder for the whole model, sharded as it was; {method} in it: one for each "
           "method")
      .Type("DIR")
      .Required();
  command.Add("--method", flags->save.method,
              "As the jobs label it; default: each job's best by held-out (without held-out "
              "data: calibration) error");
  command.Add("--save-mask", flags->save.masks, "File for the masks of all jobs").Type("FILE");
  command.Run([flags](const Shell& shell) { return Run(shell, *flags); });
}

}  // namespace attnprune::cli
