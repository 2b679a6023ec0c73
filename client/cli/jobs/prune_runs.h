// Runs from their creation to the folders that they give.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_PRUNE_RUNS_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_PRUNE_RUNS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/files/save_run.h"
#include "client/cli/flags/prune_flags.h"
#include "client/cli/jobs/server_runs.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

// Where the results of MakeRuns go, in its order: with --compare to folders of the methods' labels
// in --output. INVALID_ARGUMENT: of CheckRunPlaces.
absl::StatusOr<std::vector<RunPlaces>> PlacesOf(const PruneFlags& flags);

// Uploads what the server lacks, then creates the runs. One with kCommandLabel that the same
// command has left there is taken up in place of a new one, and resumed where it has to be. Errors
// are the server's.
absl::StatusOr<std::vector<v1::Run>> SubmitRuns(const Shell& shell, client::Client& client,
                                                const std::vector<v1::Run>& runs,
                                                const JobTensors& tensors, SubmitMode mode);

struct PrunedModels {
  int exit_code = 0;
  bool unsaved = false;  // results are there that could not be written, or of a run that failed
  absl::optional<v1::Run> goes_on;  // the watch of this one was interrupted
  int64_t last_sequence = 0;        // of that one
};

// Follows the runs one after the other, a failed one too; then writes the models of those that
// succeeded and, of several, tells a table of their losses. json: prints them at the end.
PrunedModels FollowRuns(const Shell& shell, client::Client& client,
                        const std::vector<v1::Run>& runs, const std::vector<RunPlaces>& places,
                        bool quiet, bool json);

// After an interrupted watch of a run on a server: says how to come back and how to have its model.
// Returns kInterrupted.
int SayRunGoesOn(const Shell& shell, const PrunedModels& models, const std::string& server);

// The same message of runs at hand, for --json.
v1::ListRunsResponse ListOf(const std::vector<v1::Run>& runs);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_PRUNE_RUNS_H_
