// A run in independent order, cut into parts that several workers do side by side: part b prunes
// block b on its inputs in the dense model.
//
// Whoever has part b first takes the dense model's hidden states through block b, and opens part
// b + 1 with them: the workers follow each other through the model, and no pass is done twice.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_PARTS_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_PARTS_H_

#include <memory>

#include "absl/status/status.h"
#include "server/blobs/blob_store.h"
#include "server/execution/claimed_job.h"
#include "server/execution/job_runner.h"
#include "server/execution/open_run.h"
#include "server/execution/stop_signal.h"
#include "server/queue/job_store.h"

namespace attnprune {

// On the worker that has claimed the run itself: does parts until all are done, whoever did them.
// What they stored is in the job store then.
absl::Status RunAllParts(ClaimedJob& job, OpenRun& run);

// On a worker with nothing else to do: does parts of runs that others have claimed. Keeps the run
// of the last part open for the next one. One thread.
class RunHelper {
 public:
  RunHelper(JobStore* jobs, BlobStore* tensors) : jobs_(jobs), tensors_(tensors) {}

  // Does the part, and writes how it ended: done, given back when asked to stop, or the run FAILED.
  void Help(const ClaimedPart& part, const JobRunnerOptions& options, StopSignal* stop);
  void Forget() { run_.reset(); }

 private:
  absl::Status RunPart(ClaimedJob& job, const ClaimedPart& part);

  JobStore* const jobs_;
  BlobStore* const tensors_;
  JobClaim opened_by_;  // of run_: with another fence it may be another spec
  std::unique_ptr<OpenRun> run_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_PARTS_H_
