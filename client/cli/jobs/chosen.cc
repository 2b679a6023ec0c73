#include "client/cli/jobs/chosen.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/jobs/server_runs.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int kUnlimited = std::numeric_limits<int>::max();

template <typename Request>
absl::StatusOr<Request> RequestFor(const ChoiceFlags& flags, const Findable& findable) {
  Request request;
  for (const v1::JobState state : findable.states) request.add_states(state);
  ATTNPRUNE_RETURN_IF_ERROR(ParseLabels(flags.labels, request.mutable_labels()));
  return request;
}

template <typename Resources>
void AddOldestFirst(const Resources& newest_first, std::vector<std::string>& names) {
  for (auto one = newest_first.rbegin(); one != newest_first.rend(); ++one) {
    names.push_back(one->name());
  }
}

absl::StatusOr<std::vector<std::string>> Found(client::Client& client, const ChoiceFlags& flags,
                                               const Findable& findable) {
  std::vector<std::string> names;
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto of_runs, RequestFor<v1::ListRunsRequest>(flags, findable));
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListRunsResponse runs,
                             ListRuns(client, of_runs, kUnlimited));
  AddOldestFirst(runs.runs(), names);
  if (!findable.jobs) return names;
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto of_jobs, RequestFor<v1::ListJobsRequest>(flags, findable));
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListJobsResponse jobs,
                             ListJobs(client, of_jobs, kUnlimited));
  AddOldestFirst(jobs.jobs(), names);
  return names;
}

}  // namespace

void AddChoiceFlags(Command& command, ChoiceFlags& flags, const std::string& which) {
  command.Add("NAME", flags.names,
              "The jobs or runs; of several --json prints one message after the other");
  command.Add("--label", flags.labels,
              absl::StrCat("In place of names: ", which, " with this label. Repeatable"),
              {.type = "KEY=VALUE", .repeatable = true});
}

absl::Status CheckChoice(const ChoiceFlags& flags) {
  Labels labels;
  ATTNPRUNE_RETURN_IF_ERROR(ParseLabels(flags.labels, &labels));
  if (flags.names.empty() != flags.labels.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("NAME or --label must be given, got ",
                                                 flags.names.empty() ? "neither" : "both"));
}

absl::StatusOr<std::vector<std::string>> Chosen(client::Client& client, const ChoiceFlags& flags,
                                                const Findable& findable) {
  if (flags.names.empty()) return Found(client, flags, findable);
  std::vector<std::string> names;
  for (const std::string& name : flags.names) {
    names.push_back(NamesRun(name) || !findable.jobs ? RunName(name) : JobName(name));
  }
  return names;
}

int ForEachChosen(const Shell& shell, client::Client& client, const ChoiceFlags& flags,
                  const Findable& findable, const std::function<int(const std::string&)>& one) {
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const std::vector<std::string> names,
                           Chosen(client, flags, findable));
  if (names.empty()) {
    Note(shell, absl::StrCat("attnprune: there is none with the label ",
                             absl::StrJoin(flags.labels, " and ")));
    return findable.none;
  }
  int code = kDone;
  for (const std::string& name : names) {
    const int ended = one(name);
    if (code == kDone) code = ended;
    if (ended == kInterrupted || ended == kUnreachable) break;
  }
  return code;
}

}  // namespace attnprune::cli
