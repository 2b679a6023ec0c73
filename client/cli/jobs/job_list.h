// Lists of jobs.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_JOB_LIST_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_JOB_LIST_H_

#include <vector>

#include "absl/status/statusor.h"
#include "attnprune/v1/prune_service.pb.h"
#include "client/library/client.h"

namespace attnprune::cli {

// Pages until there are `limit` jobs, newest first; next_page_token says whether there are more.
// Errors are the server's.
absl::StatusOr<v1::ListJobsResponse> ListJobs(client::Client& client, v1::ListJobsRequest request,
                                              int limit);

// The same message of jobs at hand, for --json.
v1::ListJobsResponse ListOf(const std::vector<v1::Job>& jobs);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_JOB_LIST_H_
