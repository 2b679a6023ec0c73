// From flags to runs.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_MAKE_RUN_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_MAKE_RUN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/run.pb.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/flags/prune_flags.h"

namespace attnprune::cli {

// Reads the model and the tokens: a run for each variant. flags: of CompletePruneFlags. An error
// is the user's: it names the flag or the file, the rule and the value. What only the server can
// know (methods, limits) is left to it.
absl::StatusOr<std::vector<v1::Run>> MakeRuns(const PruneFlags& flags, JobTensors& tensors);

// For a server of this very build: INVALID_ARGUMENT names a --method or --rule whose method it does
// not have, prunes no linear maps, or has parameters that it would refuse; and an
// --attention-method that it does not have or would refuse.
absl::Status CheckRunMethods(const PruneFlags& flags);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_MAKE_RUN_H_
