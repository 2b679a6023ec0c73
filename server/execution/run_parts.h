// A run in independent order, cut into parts that several workers do side by side: part b prunes
// block b on its inputs in the dense model.
//
// The first to have part b takes the dense model's hidden states through block b, and opens part
// b + 1 with them: the workers follow each other through the model. A part's checkpoint
// (run_checkpoint.h) is where whoever claims it next goes on.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_PARTS_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_PARTS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/blobs/blob_store.h"
#include "server/execution/claimed_job.h"
#include "server/execution/job_runner.h"
#include "server/execution/open_run.h"
#include "server/execution/run_progress.h"
#include "server/execution/stop_signal.h"
#include "server/queue/job_store.h"

namespace attnprune {

// On the worker that has claimed the run itself: does parts until all are done, whoever did them.
// What they stored is in the job store then.
absl::Status RunAllParts(ClaimedJob& job, OpenRun& run, RunPace& pace);

// On a worker with nothing else to do: does parts of runs that others have claimed. Keeps the run
// of the last part open for the next one. What fails here is given back, and left for the run's own
// worker to meet. One thread.
class RunHelper {
 public:
  RunHelper(JobStore* jobs, BlobStore* tensors) : jobs_(jobs), tensors_(tensors) {}

  // Does the part, and writes how it ended. False: it was given back; where that is for what is
  // wrong here, so will every part of this attempt at the run be.
  bool Help(const ClaimedPart& part, const JobRunnerOptions& options, StopSignal* stop);
  void Forget() { run_.reset(); }

 private:
  absl::Status Open(ClaimedJob& job, const ClaimedPart& part);
  absl::Status RunPart(ClaimedJob& job, const ClaimedPart& part);

  JobStore* const jobs_;
  BlobStore* const tensors_;
  std::string opened_;  // the id of run_
  std::unique_ptr<OpenRun> run_;
  RunPace pace_;
  JobClaim refused_;  // of a part that was given back: its job and attempt
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_PARTS_H_
