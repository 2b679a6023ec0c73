// From flags to a job, and to the places of its results.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_MAKE_JOB_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_MAKE_JOB_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/flags/job_flags.h"

namespace attnprune::cli {

// Reads the files, for one layer at most. An error is the user's: it
// names the flag or the file, the rule and the value. What only the server can know (methods,
// limits) is left to it.
absl::StatusOr<v1::Job> MakeJob(const JobFlags& flags, JobTensors& tensors);

// Adds kWeightsLabel, where the path of `source` is plain text that fits a label.
void AddWeightsLabel(const std::string& source, Labels* labels);

// For a server of this very build: INVALID_ARGUMENT names a --method that it does not have, or
// whose parameters it would refuse.
absl::Status CheckMethods(const JobFlags& flags);

// Of a job's flags: --output and --save-mask against FilesOf the model or file, the
// calibration and the held-out files; --tensorboard.
absl::Status CheckJobOutputs(const JobFlags& flags);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_MAKE_JOB_H_
