// What `run` and `submit` have in common: from flags to a job on a server, and to its end.
#ifndef ATTNPRUNE_CLIENT_CLI_SUBMISSION_H_
#define ATTNPRUNE_CLIENT_CLI_SUBMISSION_H_

#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/job_flags.h"
#include "client/cli/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

enum class SubmitMode { kCreate, kValidateOnly };

// Uploads what the server lacks, then creates the job. Errors are the server's.
absl::StatusOr<v1::Job> Submit(const Shell& shell, client::Client& client, const v1::Job& job,
                               const JobTensors& tensors, SubmitMode mode);

struct FollowResult {
  int exit_code = 0;
  bool interrupted = false;  // the job may go on
  int64_t last_sequence = 0;
};

// Watches the job to its end, then shows the table (or, with json, the job), and saves what the
// flags ask for.
FollowResult Follow(const Shell& shell, client::Client& client, const v1::Job& job,
                    const JobFlags& flags, bool json);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_SUBMISSION_H_
