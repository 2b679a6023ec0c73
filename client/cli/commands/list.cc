// attnprune list: the jobs of a server, newest first.
#include <memory>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/labels.h"
#include "client/cli/jobs/job_list.h"
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
  const auto& error = (*best)->relative_error();
  return absl::StrFormat("%s %.5f", (*best)->method(),
                         error.has_held_out() ? error.held_out() : error.calibration());
}

std::string ListText(const v1::ListJobsResponse& list) {
  std::vector<std::vector<std::string>> rows = {
      {"job", "state", "priority", "created", "methods", "best"}};
  for (const v1::Job& job : list.jobs()) {
    std::vector<std::string> methods;
    for (const v1::Method& method : job.methods()) methods.push_back(method.name());
    rows.push_back(
        {job.name(), StateText(job.state()), absl::StrCat(job.priority()),
         absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(job.create_time().seconds()),
                          absl::LocalTimeZone()),
         absl::StrJoin(methods, ","), BestText(job)});
  }
  return TableText(rows);
}

int Run(const Shell& shell, const ListFlags& flags) {
  const auto request = RequestOf(flags);
  if (!request.ok()) return UsageError(shell, request.status());
  const auto client = Connect(shell, flags.connect);
  if (!client.ok()) return UsageError(shell, client.status());
  const auto list = ListJobs(**client, *request, flags.limit);
  if (!list.ok()) return ServerError(shell, list.status());
  *shell.out << (flags.connect.json ? Json(*list, JsonStyle::kIndented) : ListText(*list));
  if (!list->next_page_token().empty()) Note(shell, "there are more; see --limit");
  return kDone;
}

}  // namespace

void AddListCommand(Command& program) {
  auto flags = std::make_shared<ListFlags>();
  Command command = program.AddCommand("list", "List jobs, newest first");
  AddConnectFlags(command, flags->connect);
  command.Add("--state", flags->states, "Only jobs in this state. Repeatable")
      .Type("STATE")
      .Repeatable();
  command.Add("--label", flags->labels, "Only jobs with this label. Repeatable")
      .Type("KEY=VALUE")
      .Repeatable();
  command.Add("--limit", flags->limit, "The most jobs to list").Between(1, 1'000'000).ShowDefault();
  command.Run([flags](const Shell& shell) { return Run(shell, *flags); });
}

}  // namespace attnprune::cli
