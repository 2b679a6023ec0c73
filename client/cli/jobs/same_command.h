// `run` or `prune` with --data-dir called again: goes on with the jobs or runs that the same
// command has left unfinished in the folder, in place of a second run behind them.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_SAME_COMMAND_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_SAME_COMMAND_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/run.pb.h"
#include "client/library/client.h"

namespace attnprune::cli {

// The label of a job by which UnfinishedOf finds it: a digest of all that the command asks for.
inline constexpr char kCommandLabel[] = "attnprune/command";

// Gives it kCommandLabel.
void LabelCommand(v1::Job& job);
void LabelCommand(v1::Run& run);

// The newest job with the kCommandLabel of `job` that has not ended. Errors are the server's.
absl::StatusOr<absl::optional<v1::Job>> UnfinishedOf(client::Client& client, const v1::Job& job);

// The newest run with the kCommandLabel of `run`, in any state: what it has is never done again.
absl::StatusOr<absl::optional<v1::Run>> RunOfSameCommand(client::Client& client,
                                                         const v1::Run& run);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_SAME_COMMAND_H_
