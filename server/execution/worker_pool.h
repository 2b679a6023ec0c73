// The threads that run queued jobs.
#ifndef ATTNPRUNE_SERVER_EXECUTION_WORKER_POOL_H_
#define ATTNPRUNE_SERVER_EXECUTION_WORKER_POOL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/blobs/blob_store.h"
#include "server/execution/job_runner.h"
#include "server/execution/run_parts.h"
#include "server/execution/stop_signal.h"
#include "server/queue/job_store.h"
#include "server/queue/scheduler.h"

namespace attnprune {

struct WorkerPoolOptions {
  int workers = 1;                           // jobs that run at the same time, at least 1
  JobRunnerOptions runner;                   // threads a job, intervals, clock, trouble, observer
  std::string owner = "local";               // of the leases; shown to people
  absl::Duration lease = absl::Seconds(30);  // a worker silent for so long loses its job
  // Between two passes of upkeep at most, in real time; zero: a third of the lease.
  absl::Duration upkeep_interval = absl::ZeroDuration();
  SchedulerPolicy policy;  // of jobs whose worker was lost
};

// Claims jobs in the store's order and runs them, one a worker; a worker without a job helps with
// parts of running ones until there is a job. Renews their leases, and acts on
// what the scheduler finds overdue. Idle workers wait for news of the store: it must tell this
// listener (SetListener) from before Start until the pool is destroyed. Thread-safe. Lock order:
// the store's writer lock, then mutex_; the store is never called with mutex_ held.
class WorkerPool final : public JobStoreListener {
 public:
  // Both stores must outlive the pool.
  WorkerPool(const WorkerPoolOptions& options, JobStore* jobs, BlobStore* tensors);
  // Drain, with no time given, and then waits for what it cannot interrupt. Afterwards the store
  // must not tell it any more: SetListener first.
  ~WorkerPool() override;

  // Once. Jobs that are queued already begin to run.
  void Start();

  // Claims no more jobs; running ones write a checkpoint and go back into the queue ("server
  // draining"), a run after its parts. Waits for that until `timeout` of real time is over. Jobs
  // that are then still in the middle of a step, or of work without steps, are given back as their
  // last checkpoint has them, and what they still compute is dropped. True: no thread is left.
  // False: some still compute, and the destructor will wait for them; a process that is to end need
  // not.
  bool Drain(absl::Duration timeout);

  // One pass: renews leases, tells jobs to stop that were cancelled or have timed out, takes back
  // jobs of lost workers, has idle workers look for work. Called every upkeep_interval, and when
  // a lease ends, by a thread of its own; tests with a clock of theirs call it too. Returns how
  // long after it the next lease ends.
  absl::Duration RunUpkeep();

  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override;
  void OnCancelRequested(const std::string& job_id) override;
  void OnPartOpened(const std::string& job_id) override;
  void OnRemoteChange(const JobChange& job) override;

 private:
  struct Running {
    JobClaim claim;
    std::shared_ptr<StopSignal> stop;
  };

  void WorkerLoop(int worker);
  void UpkeepLoop();
  void RunClaimed(int worker, const JobRecord& job);
  // Whether a part was done. Where one was given back the worker waits for news: else it would take
  // the same one again.
  bool RunNextPart(int worker, RunHelper& helper);
  // Calls `run` with the options of a worker's slot, while the claim's lease is renewed.
  void RunWith(const JobClaim& claim, int worker,
               absl::FunctionRef<void(const JobRunnerOptions&, StopSignal*)> run);
  std::shared_ptr<StopSignal> Enter(const JobClaim& claim);
  void Leave(const JobClaim& claim);
  // Until no claim on a part of the job is left here, or the job is another's.
  void AwaitHelpers(const JobClaim& job, const StopSignal& stop);
  std::vector<Running> RunningJobs();
  void StopRunning(const std::string& job_id);
  void FreeAHelper();
  void WakeWorkers();

  void RenewLease(const Running& running);
  void Act(const Action& action, const std::vector<Running>& running);
  absl::Status Write(const Action& action);
  void GiveBack(const Running& running);
  void Report(const std::string& job_id, const absl::Status& status);

  const WorkerPoolOptions options_;
  JobStore* const jobs_;
  BlobStore* const tensors_;

  Mutex mutex_;
  CondVar changed_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t wakes_ ABSL_GUARDED_BY(mutex_) = 0;  // grows when there may be a job to claim
  int live_threads_ ABSL_GUARDED_BY(mutex_) = 0;
  int idle_ ABSL_GUARDED_BY(mutex_) = 0;  // workers that wait
  std::vector<Running> running_ ABSL_GUARDED_BY(mutex_);

  std::vector<std::jthread> threads_;  // by Start and the destructor only
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_WORKER_POOL_H_
