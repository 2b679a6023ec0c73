#include "client/cli/flags/job_list.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int kLargestPage = 1000;

}  // namespace

absl::Status ParseLabels(const std::vector<std::string>& texts, Labels* labels) {
  for (const std::string& text : texts) {
    const std::vector<std::string> sides = absl::StrSplit(text, absl::MaxSplits('=', 1));
    if (sides.size() != 2 || sides[0].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--label must be KEY=VALUE, got ", text));
    }
    if (!labels->insert({sides[0], sides[1]}).second) {
      return absl::InvalidArgumentError(absl::StrCat("--label must name a key once, got ", text));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::ListJobsResponse> ListJobs(client::Client& client, v1::ListJobsRequest request,
                                              int limit) {
  v1::ListJobsResponse all;
  do {
    request.set_page_size(std::min(limit - all.jobs_size(), kLargestPage));
    request.set_page_token(all.next_page_token());
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::ListJobsResponse page, client.ListJobs(request));
    all.clear_next_page_token();
    all.MergeFrom(page);
  } while (!all.next_page_token().empty() && all.jobs_size() < limit);
  return all;
}

v1::ListJobsResponse ListOf(const std::vector<v1::Job>& jobs) {
  v1::ListJobsResponse list;
  list.mutable_jobs()->Assign(jobs.begin(), jobs.end());
  return list;
}

}  // namespace attnprune::cli
