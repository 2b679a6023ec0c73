// Runs one claimed job to its end: its methods in order on the same problem, each scored and
// stored.
#ifndef ATTNPRUNE_SERVER_EXECUTION_JOB_RUNNER_H_
#define ATTNPRUNE_SERVER_EXECUTION_JOB_RUNNER_H_

#include <cstddef>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/methods/method.h"
#include "server/blobs/blob_store.h"
#include "server/execution/stop_signal.h"
#include "server/queue/job_store.h"

namespace attnprune {

// What workers do, for who counts it. `worker`: the slot, from 0. For each slot one call at a time,
// but for OnCheckpoint, which comes from the thread that writes. Returns at once and waits for
// nothing.
class SolveObserver {
 public:
  virtual ~SolveObserver() = default;
  virtual void OnJobBegin(int worker) = 0;
  virtual void OnJobEnd(int worker) = 0;
  virtual void OnMethodBegin(int worker, const std::string& method) = 0;  // its name
  virtual void OnMethodEnd(int worker) = 0;
  virtual void OnStep(int worker, const StepStats& stats) = 0;
  virtual void OnCheckpoint(int worker, bool written, size_t bytes) = 0;
};

// Told when a job's figures cannot be written or a store does not answer, for the log. From any
// thread; returns quickly.
using TroubleListener = std::function<void(const std::string& job_id, const absl::Status& status)>;

struct JobRunnerOptions {
  int threads = 1;  // that solve the job, at least 1; never changes a result
  // Decides, by the job's estimate, what is kept in memory (WithinBudget); 0: everything.
  // Never changes a result.
  int64_t memory_budget_bytes = 0;
  // For temporary files that take no part in a result; and what they leave of its disk.
  std::string spill_folder;
  int64_t min_free_disk_bytes = int64_t{64} << 20;
  // Between two checkpoints, by the clock; zero: at every chance. A crash costs so much of the
  // solving. A run whose checkpoints are large makes fewer (run_checkpoint.h).
  absl::Duration checkpoint_interval = absl::Seconds(5);
  // Between two writes of progress, in real time.
  absl::Duration progress_interval = absl::Milliseconds(100);
  // Between two tries at a write that a full disk or a busy database refused, in real time.
  absl::Duration retry_interval = absl::Seconds(1);
  // Returns once nobody here has a part of the run any more, or there is no time left for that.
  // Called before a run that drains is given back, which ends the claims on its parts; may be
  // empty.
  std::function<void()> await_helpers;
  const Clock* clock = nullptr;       // the store's; required; must outlive the run
  TroubleListener on_trouble;         // may be empty
  int worker = 0;                     // the slot that runs the job, for the observer
  SolveObserver* observer = nullptr;  // told of the solving; nullptr: nobody; must outlive the run
};

// Runs `job` as it came from JobStore::Claim, on the calling thread, and writes how it ended:
//
// SUCCEEDED  every method has a result and at least one of them did not fail
// FAILED     all methods failed (the first one's failure), a tensor is gone or damaged (DATA_LOSS
//            naming field and digest), the problem is not valid (INVALID_ARGUMENT naming the
//            field), memory ran out (RESOURCE_EXHAUSTED), or the timeout passed (DEADLINE_EXCEEDED)
// CANCELLED  when asked to
// QUEUED     when asked to drain, with a checkpoint of the method in progress
//
// A stop takes effect at the next step of a method that has steps, otherwise between two of:
// reading a tensor, solving, scoring, storing. Results of earlier attempts are kept, and the method
// in progress goes on from its checkpoint with the same bits; a checkpoint that is damaged or
// refused is a warning event, and that method starts over.
//
// Writes that a full disk refuses are tried again until they succeed or the server drains; progress
// is dropped meanwhile. If the job store fails for another reason, or the server drains before a
// write succeeds, the job stays RUNNING in the store and its lease is left to lapse: it will run
// again from its last checkpoint. Nothing is written once the claim has lapsed.
void RunJob(const JobRecord& job, JobStore* jobs, BlobStore* tensors,
            const JobRunnerOptions& options, StopSignal* stop);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_JOB_RUNNER_H_
