// Jobs on a server: created, listed, and watched to their end.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_SERVER_JOBS_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_SERVER_JOBS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "attnprune/v1/prune_service.pb.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

enum class SubmitMode { kCreate, kValidateOnly };

// Uploads what the server lacks. Errors are the server's, here and below.
absl::Status UploadAll(const Shell& shell, client::Client& client, const JobTensors& tensors);

// Uploads, then creates the job.
absl::StatusOr<v1::Job> Submit(const Shell& shell, client::Client& client, const v1::Job& job,
                               const JobTensors& tensors, SubmitMode mode);

// Pages until there are `limit` jobs, newest first; next_page_token says whether there are more.
absl::StatusOr<v1::ListJobsResponse> ListJobs(client::Client& client, v1::ListJobsRequest request,
                                              int limit);

enum class WatchOutput {
  kPeople,       // bars or lines on out
  kPeopleOnErr,  // the same on err: out is for a program
  kEvents,       // JSON, one event a line, on out, and people's on err
};

struct FollowResult {
  int exit_code = 0;
  bool interrupted = false;  // the job may go on
  bool unsaved = false;      // results are there that could not be written
  int64_t last_sequence = 0;
  absl::optional<v1::Job> ended;  // absent: interrupted, or the server is gone
};

// What a watch is to write beside its table.
struct WatchWishes {
  std::string tensorboard;  // folder, written as the events come, from the first one; empty: none
  bool quiet = false;       // no bars and no progress: only changes of state, warnings and results
};

// Watches the job, which is as it was before the watch, from the event after `after` to its end,
// and shows the table. A failure to write TensorBoard's files is told once, and
// the watch goes on.
FollowResult FollowToEnd(const Shell& shell, client::Client& client, const v1::Job& job,
                         const WatchWishes& wishes, WatchOutput output, int64_t after = 0);

// Watches the job to its end, then shows the table (or, with json, the job), and saves what the
// flags ask for.
FollowResult Follow(const Shell& shell, client::Client& client, const v1::Job& job,
                    const JobFlags& flags, bool json);

// kDone if the job and all its methods succeeded, else kFailed, with the reason on err.
int ExitCodeOf(const Shell& shell, const v1::Job& job);

// After an interrupted watch of a job that goes on: says how to resume it, after the last event or,
// since TensorBoard's files begin with the first event, from the beginning. Returns kInterrupted.
int SayHowToResume(const Shell& shell, const std::string& name, const std::string& server,
                   const std::string& tensorboard, int64_t last_sequence);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_SERVER_JOBS_H_
