// The recipe that fits a time: --time.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_RUN_BY_TIME_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_RUN_BY_TIME_H_

#include <vector>

#include "absl/status/statusor.h"
#include "attnprune/v1/run.pb.h"
#include "client/cli/flags/prune_flags.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

// runs: of MakeRuns. With --time one of them: the first that the server estimates to be done by
// then on so many threads, or the last where none is; which, is told. Without it all. Errors are
// the server's.
absl::StatusOr<std::vector<v1::Run>> RunsByTime(const Shell& shell, client::Client& client,
                                                const PruneFlags& flags, std::vector<v1::Run> runs,
                                                int threads);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_RUN_BY_TIME_H_
