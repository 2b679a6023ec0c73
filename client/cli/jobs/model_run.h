// `--layer all`: one job for each layer of a model, submitted, followed and merged together.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_MODEL_RUN_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_MODEL_RUN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

// The label that the jobs of one run share. Given with --label it names the run: submitted again,
// the run creates only the jobs that are missing.
inline constexpr char kModelRunLabel[] = "attnprune/model-run";

struct ModelRun {
  std::string id;             // value of kModelRunLabel
  std::vector<v1::Job> jobs;  // by layer, from 0
};

// "attnprune/model-run=ID".
std::string LabelOf(const ModelRun& run);

// Reads the files for every layer before any job is made. Errors as MakeJob; also where two layers
// would get the same input, or one file is to hold what every layer draws.
absl::StatusOr<ModelRun> MakeModelRun(const JobFlags& flags, JobTensors& tensors);

struct SubmittedRun {
  std::vector<v1::Job> jobs;  // that the server has taken, by layer
  absl::Status status;        // the server's; not OK: of the upload or of the job after those
};

// Uploads what the server lacks, then creates the jobs one after the other, each under a request_id
// made of the run's id and its layer. Stops at the first error.
SubmittedRun SubmitModelRun(const Shell& shell, client::Client& client, const ModelRun& run,
                            const JobTensors& tensors, SubmitMode mode);

struct FollowedRun {
  int exit_code = 0;         // kDone only if all jobs succeeded and what was asked for was saved
  bool interrupted = false;  // the jobs may go on
  bool unsaved = false;      // results are there that could not be written
};

// Follows the jobs one after the other, a failed one too; prints them at the end with json. Then
// tells a table of all, and merges those that succeeded into what the flags ask for, with a note of
// the layers that are written as in the model.
FollowedRun FollowModelRun(const Shell& shell, client::Client& client,
                           const std::vector<v1::Job>& jobs, const JobFlags& flags, bool json);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_MODEL_RUN_H_
