// Calibration made on the way: the model run on a text or on tokens before the job is made.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_CAPTURED_INPUT_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_CAPTURED_INPUT_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/shell/shell.h"
#include "client/cli/shell/temporary_folder.h"

namespace attnprune::cli {

// Holds the captured files, in a temporary folder of $TMPDIR or /var/tmp, until it is destroyed:
// keep it until the tensors are uploaded.
struct CapturedInput {
  JobFlags flags;  // those given, with --calibration in place of --text or --tokens
  std::unique_ptr<OwnTemporaryFolder> folder;  // null: nothing was captured
};

// threads: that run the model; 0: one a core. memory_budget: PassOptions's. INVALID_ARGUMENT for
// flags that do not go together; CANCELLED; errors of Forward::Open, ReadSamples and Capture.
absl::StatusOr<CapturedInput> CaptureInput(const Shell& shell, const JobFlags& flags, int threads,
                                           int64_t memory_budget);

// Tells an error of CaptureInput, or of a pass over a model, and returns its exit code.
int CaptureError(const Shell& shell, const absl::Status& status);

// Tells what the files of a job have that somebody may want to know.
void TellNotes(const Shell& shell, const JobTensors& tensors);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_CAPTURED_INPUT_H_
