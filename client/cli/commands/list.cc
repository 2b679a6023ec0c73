// attnprune list: the runs and jobs of a server, newest first; or its tensors.
#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/jobs/server_runs.h"
#include "client/cli/shell/printable.h"
#include "client/cli/views/format.h"
#include "client/cli/views/paint.h"
#include "client/cli/views/result_table.h"
#include "client/cli/views/run_table.h"
#include "client/cli/views/tensor_table.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int kLargestPage = 1000;  // of tensors

struct ListFlags {
  ConnectFlags connect;
  std::vector<std::string> states, labels;
  int limit = 50;
  bool runs = false, tensors = false, unused = false;
};

// Request: of jobs or of runs.
template <typename Request>
absl::StatusOr<Request> RequestOf(const ListFlags& flags) {
  Request request;
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

std::string TextOf(const Shell& shell, const v1::ListJobsResponse& raw) {
  const v1::ListJobsResponse list = ForPeople(raw);
  return Painted(
      JobListText({list.jobs().begin(), list.jobs().end()}, absl::Now(), shell.out_columns),
      shell.out_color);
}

std::string TextOf(const Shell& shell, const v1::ListRunsResponse& raw) {
  const v1::ListRunsResponse list = ForPeople(raw);
  return Painted(
      RunListText({list.runs().begin(), list.runs().end()}, absl::Now(), shell.out_columns),
      shell.out_color);
}

void TellIfMore(const Shell& shell, const std::string& next_page_token) {
  if (!next_page_token.empty()) Note(shell, "there are more; see --limit");
}

int ListOnlyRuns(const Shell& shell, const ListFlags& flags, client::Client& client,
                 const v1::ListRunsRequest& request) {
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::ListRunsResponse runs,
                           ListRuns(client, request, flags.limit));
  *shell.out << (flags.connect.json ? Json(runs, JsonStyle::kIndented) : TextOf(shell, runs));
  TellIfMore(shell, runs.next_page_token());
  return kDone;
}

// None of a server that knows jobs only.
absl::StatusOr<v1::ListRunsResponse> RunsThereAre(const ListFlags& flags, client::Client& client,
                                                  const v1::ListRunsRequest& request) {
  absl::StatusOr<v1::ListRunsResponse> runs = ListRuns(client, request, flags.limit);
  return absl::IsUnimplemented(runs.status()) ? v1::ListRunsResponse() : runs;
}

// Runs, where there are any, in a table of their own before the jobs.
int ListAll(const Shell& shell, const ListFlags& flags, client::Client& client,
            const v1::ListRunsRequest& of_runs, const v1::ListJobsResponse& jobs) {
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::ListRunsResponse runs,
                           RunsThereAre(flags, client, of_runs));
  if (!runs.runs().empty()) *shell.out << TextOf(shell, runs);
  if (!runs.runs().empty() && !jobs.jobs().empty()) *shell.out << "\n";
  if (runs.runs().empty() || !jobs.jobs().empty()) *shell.out << TextOf(shell, jobs);
  TellIfMore(shell, runs.next_page_token() + jobs.next_page_token());
  return kDone;
}

int ListTensors(const Shell& shell, const ListFlags& flags) {
  if (flags.runs || !flags.states.empty() || !flags.labels.empty()) {
    return UsageError(shell, absl::InvalidArgumentError(
                                 "--tensors must stand without --runs, --state and --label"));
  }
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  v1::ListTensorsRequest request;
  request.set_unused(flags.unused);
  v1::ListTensorsResponse all;
  do {
    request.set_page_size(std::min(flags.limit - all.tensors_size(), kLargestPage));
    ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, v1::ListTensorsResponse page,
                             client->ListTensors(request));
    all.mutable_tensors()->MergeFrom(page.tensors());
    all.set_next_page_token(page.next_page_token());
    request.set_page_token(page.next_page_token());
  } while (all.tensors_size() < flags.limit && !all.next_page_token().empty());
  if (flags.connect.json) {
    *shell.out << Json(all, JsonStyle::kIndented);
  } else {
    const v1::ListTensorsResponse list = ForPeople(all);
    *shell.out << Painted(
        TensorListText({list.tensors().begin(), list.tensors().end()}, shell.out_columns),
        shell.out_color);
  }
  TellIfMore(shell, all.next_page_token());
  return kDone;
}

int Run(const Shell& shell, const ListFlags& flags) {
  if (flags.tensors) return ListTensors(shell, flags);
  if (flags.unused) {
    return UsageError(shell, absl::InvalidArgumentError("--unused must stand beside --tensors"));
  }
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto request, RequestOf<v1::ListJobsRequest>(flags));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto of_runs, RequestOf<v1::ListRunsRequest>(flags));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  if (flags.runs) return ListOnlyRuns(shell, flags, *client, of_runs);
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::ListJobsResponse jobs,
                           ListJobs(*client, request, flags.limit));
  if (!flags.connect.json) return ListAll(shell, flags, *client, of_runs, jobs);
  *shell.out << Json(jobs, JsonStyle::kIndented);
  TellIfMore(shell, jobs.next_page_token());
  return kDone;
}

}  // namespace

void AddListCommand(Command& program) {
  Command command = program.AddCommand(
      "list", "List jobs, newest first, and before them runs, if there are any; or tensors");
  ListFlags& flags = command.Runs<ListFlags>(Run);
  AddConnectFlags(command, flags.connect);
  command.Add("--state", flags.states, "Only those in this state. Repeatable",
              {.type = "STATE", .repeatable = true});
  command.Add("--label", flags.labels, "Only those with this label. Repeatable",
              {.type = "KEY=VALUE", .repeatable = true});
  command.Add("--limit", flags.limit, "The most jobs, and the most runs, or tensors, to list",
              {.show_default = true, .between = {{1, 1'000'000}}});
  command.Add("--runs", flags.runs, "Only runs. With --json: without it, only jobs");
  command.Add("--tensors", flags.tensors,
              "In place of jobs, what is stored: uploads that are not finished, then tensors");
  command.Add(
      "--unused", flags.unused,
      "With --tensors: only what no job or run refers to, which goes some time after `time`");
}

}  // namespace attnprune::cli
