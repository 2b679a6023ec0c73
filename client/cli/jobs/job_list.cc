#include "client/cli/jobs/job_list.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int kLargestPage = 1000;

}  // namespace

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
