// Runs on a server: created, listed, and watched to their end.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_SERVER_RUNS_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_SERVER_RUNS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "attnprune/v1/prune_service.pb.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

// Of a run whose tensors are uploaded. Errors are the server's.
absl::StatusOr<v1::Run> CreateRun(client::Client& client, const v1::Run& run, SubmitMode mode);

// Pages until there are `limit` runs, newest first; next_page_token says whether there are more.
absl::StatusOr<v1::ListRunsResponse> ListRuns(client::Client& client, v1::ListRunsRequest request,
                                              int limit);

struct FollowedRunResult {
  int exit_code = 0;
  bool interrupted = false;  // the run may go on
  int64_t last_sequence = 0;
  absl::optional<v1::Run> ended;  // absent: interrupted, or the server is gone
};

enum class Progress { kShown, kQuiet };

// Watches the run, which is as it was before the watch, from the event after `after` to its end,
// and shows the table.
FollowedRunResult FollowRunToEnd(const Shell& shell, client::Client& client, const v1::Run& run,
                                 Progress progress, WatchOutput output, int64_t after = 0);

// kDone if the run has succeeded, else kFailed, with the reason and how it goes on told on err.
int ExitCodeOf(const Shell& shell, const v1::Run& run);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_SERVER_RUNS_H_
