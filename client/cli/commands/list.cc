// attnprune list: the jobs of a server, newest first.
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/views/format.h"
#include "client/cli/views/result_table.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

struct ListFlags {
  ConnectFlags connect;
  std::vector<std::string> states, labels;
  int limit = 50;
};

absl::StatusOr<v1::ListJobsRequest> RequestOf(const ListFlags& flags) {
  v1::ListJobsRequest request;
  for (const std::string& text : flags.states) {
    v1::JobState state{};
    if (!v1::JobState_Parse(absl::AsciiStrToUpper(text), &state)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--state must be queued, running, succeeded, failed or cancelled, got ", text));
    }
    request.add_states(state);
  }
  ATTNPRUNE_RETURN_IF_ERROR(ParseLabels(flags.labels, request.mutable_labels()));
  return request;
}

std::string BestText(const v1::Job& job) {
  const auto best = ResultOf(job, "");
  if (!best.ok()) return "";
  return absl::StrFormat("%s %.5f", (*best)->method(), JudgedError(**best));
}

std::string ListText(const v1::ListJobsResponse& list) {
  std::vector<std::vector<std::string>> rows = {
      {"job", "state", "priority", "created", "methods", "best"}};
  for (const v1::Job& job : list.jobs()) {
    std::vector<std::string> methods;
    for (const v1::Method& method : job.methods()) methods.push_back(method.name());
    rows.push_back({job.name(), StateText(job.state()), absl::StrCat(job.priority()),
                    TimeText(job.create_time()), absl::StrJoin(methods, ","), BestText(job)});
  }
  return TableText(rows);
}

int Run(const Shell& shell, const ListFlags& flags) {
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const v1::ListJobsRequest request, RequestOf(flags));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::ListJobsResponse list,
                           ListJobs(*client, request, flags.limit));
  *shell.out << (flags.connect.json ? Json(list, JsonStyle::kIndented) : ListText(list));
  if (!list.next_page_token().empty()) Note(shell, "there are more; see --limit");
  return kDone;
}

}  // namespace

void AddListCommand(Command& program) {
  Command command = program.AddCommand("list", "List jobs, newest first");
  ListFlags& flags = command.Runs<ListFlags>(Run);
  AddConnectFlags(command, flags.connect);
  command.Add("--state", flags.states, "Only jobs in this state. Repeatable",
              {.type = "STATE", .repeatable = true});
  command.Add("--label", flags.labels, "Only jobs with this label. Repeatable",
              {.type = "KEY=VALUE", .repeatable = true});
  command.Add("--limit", flags.limit, "The most jobs to list",
              {.show_default = true, .between = {{1, 1'000'000}}});
}

}  // namespace attnprune::cli
