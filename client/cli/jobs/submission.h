// What `run` and `submit` have in common: from flags to a job on a server, and to its end.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_SUBMISSION_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_SUBMISSION_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/watch_session.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

enum class SubmitMode { kCreate, kValidateOnly };

// Uploads what the server lacks. Errors are the server's, here and below.
absl::Status UploadAll(const Shell& shell, client::Client& client, const JobTensors& tensors);

// request_id: empty for a new one.
absl::StatusOr<v1::Job> Create(client::Client& client, const v1::Job& job,
                               const std::string& request_id, SubmitMode mode);

// Both, for one job.
absl::StatusOr<v1::Job> Submit(const Shell& shell, client::Client& client, const v1::Job& job,
                               const JobTensors& tensors, SubmitMode mode);

struct FollowResult {
  int exit_code = 0;
  bool interrupted = false;  // the job may go on
  int64_t last_sequence = 0;
  absl::optional<v1::Job> ended;  // absent: interrupted, or the server is gone
};

// Files of a watch; each empty: none.
struct CurveFiles {
  std::string plot, tensorboard;
};

// Watches the job to its end, shows the table, and writes the curves.
FollowResult FollowToEnd(const Shell& shell, client::Client& client, const v1::Job& job,
                         const CurveFiles& files, WatchOutput output);

// Watches the job to its end, then shows the table (or, with json, the job), and saves what the
// flags ask for.
FollowResult Follow(const Shell& shell, client::Client& client, const v1::Job& job,
                    const JobFlags& flags, bool json);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_SUBMISSION_H_
