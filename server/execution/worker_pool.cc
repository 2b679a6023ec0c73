#include "server/execution/worker_pool.h"

#include <algorithm>
#include <utility>

namespace attnprune {
WorkerPool::WorkerPool(const WorkerPoolOptions& options, JobStore* jobs, BlobStore* tensors)
    : options_(options), jobs_(jobs), tensors_(tensors) {}

WorkerPool::~WorkerPool() {
  Drain(absl::ZeroDuration());
  threads_.clear();  // joins
}

void WorkerPool::Start() {
  {
    MutexLock lock(&mutex_);
    live_threads_ = options_.workers + 1;
  }
  for (int i = 0; i < options_.workers; ++i) threads_.emplace_back([this, i] { WorkerLoop(i); });
  threads_.emplace_back([this] { UpkeepLoop(); });
}

void WorkerPool::Report(const std::string& job_id, const absl::Status& status) {
  if (options_.runner.on_trouble) options_.runner.on_trouble(job_id, status);
}

// --- Workers ---

void WorkerPool::WorkerLoop(int worker) {
  RunHelper helper(jobs_, tensors_);
  while (true) {
    int64_t seen;
    {
      MutexLock lock(&mutex_);
      if (draining_) break;
      seen = wakes_;
    }
    const absl::StatusOr<absl::optional<JobRecord>> job =
        jobs_->Claim(options_.owner, options_.lease);
    if (job.ok() && job->has_value()) {
      helper.Forget();
      RunClaimed(worker, **job);
      continue;
    }
    if (!job.ok()) Report("", job.status());
    if (RunNextPart(worker, helper)) continue;
    MutexLock lock(&mutex_);
    ++idle_;
    changed_.Wait(&mutex_,
                  [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return draining_ || wakes_ != seen; });
    --idle_;
  }
  MutexLock lock(&mutex_);
  --live_threads_;
  changed_.NotifyAll();
}

void WorkerPool::RunClaimed(int worker, const JobRecord& job) {
  RunWith({job.id, job.fence}, worker, [&](const JobRunnerOptions& options, StopSignal* stop) {
    RunJob(job, jobs_, tensors_, options, stop);
  });
}

bool WorkerPool::RunNextPart(int worker, RunHelper& helper) {
  const absl::StatusOr<absl::optional<ClaimedPart>> part = jobs_->ClaimPart(options_.lease);
  if (!part.ok()) Report("", part.status());
  if (!part.ok() || !part->has_value()) return false;
  bool done = false;
  RunWith((*part)->claim, worker, [&](const JobRunnerOptions& options, StopSignal* stop) {
    done = helper.Help(**part, options, stop);
  });
  return done;
}

void WorkerPool::RunWith(const JobClaim& claim, int worker,
                         absl::FunctionRef<void(const JobRunnerOptions&, StopSignal*)> run) {
  const std::shared_ptr<StopSignal> stop = Enter(claim);
  // What happened between claim and Enter found no running job to tell.
  const absl::StatusOr<JobRecord> now = jobs_->Get(claim.id);
  if (now.ok() && (now->fence != claim.fence || now->state != JobState::kRunning)) {
    stop->Request(StopReason::kLapsed);
  } else if (now.ok() && now->cancel_requested) {
    stop->Request(StopReason::kCancelled);
  }
  JobRunnerOptions runner = options_.runner;
  runner.worker = worker;
  if (claim.whole()) runner.await_helpers = [&] { AwaitHelpers(claim, *stop); };
  if (runner.observer != nullptr) runner.observer->OnJobBegin(worker);
  run(runner, stop.get());
  if (runner.observer != nullptr) runner.observer->OnJobEnd(worker);
  Leave(claim);
}

std::shared_ptr<StopSignal> WorkerPool::Enter(const JobClaim& claim) {
  auto stop = std::make_shared<StopSignal>();
  MutexLock lock(&mutex_);
  if (draining_) stop->Request(StopReason::kDraining);
  running_.push_back({claim, stop});
  return stop;
}

void WorkerPool::Leave(const JobClaim& claim) {
  {
    MutexLock lock(&mutex_);
    std::erase_if(running_, [&](const Running& running) { return running.claim == claim; });
  }
  changed_.NotifyAll();
}

void WorkerPool::AwaitHelpers(const JobClaim& job, const StopSignal& stop) {
  MutexLock lock(&mutex_);
  changed_.Wait(&mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    const bool alone = std::none_of(running_.begin(), running_.end(), [&](const Running& other) {
      const JobClaim& claim = other.claim;
      return !claim.whole() && claim.id == job.id && claim.fence == job.fence;
    });
    return alone || stop.reason() == StopReason::kLapsed;
  });
}

std::vector<WorkerPool::Running> WorkerPool::RunningJobs() {
  MutexLock lock(&mutex_);
  return running_;
}

// --- News ---

// A job that has ended or is queued again is no business of the workers that have had it.
void WorkerPool::OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) {
  for (const StoredEvent& event : events) {
    const bool queued = event.kind == EventKind::kStateChange && event.state == JobState::kQueued;
    if (queued || event.kind == EventKind::kTerminal) StopRunning(job_id);
    if (!queued) continue;
    FreeAHelper();
    WakeWorkers();
  }
}

void WorkerPool::StopRunning(const std::string& job_id) {
  for (const Running& running : RunningJobs()) {
    if (running.claim.id == job_id) running.stop->Request(StopReason::kLapsed);
  }
}

// Jobs come before parts: where no worker waits for one, a part is given back.
void WorkerPool::FreeAHelper() {
  std::shared_ptr<StopSignal> helper;
  {
    MutexLock lock(&mutex_);
    if (idle_ > 0) return;
    for (const Running& running : running_) {
      const bool helps = !running.claim.whole() && !running.stop->requested();
      if (helps) helper = running.stop;
    }
  }
  if (helper != nullptr) helper->Request(StopReason::kDraining);
}

void WorkerPool::OnPartOpened(const std::string&) { WakeWorkers(); }

void WorkerPool::OnCancelRequested(const std::string& job_id) {
  for (const Running& running : RunningJobs()) {
    if (running.claim.id == job_id) running.stop->Request(StopReason::kCancelled);
  }
}

// What is told may be older than what this server has done since: a claim lapses by its fence
// alone.
void WorkerPool::OnRemoteChange(const JobChange& job) {
  for (const Running& running : RunningJobs()) {
    if (running.claim.id != job.job_id || job.fence < running.claim.fence) continue;
    if (job.fence > running.claim.fence || IsTerminal(job.state)) {
      running.stop->Request(StopReason::kLapsed);
    } else if (job.cancel_requested) {
      running.stop->Request(StopReason::kCancelled);
    }
  }
  const bool part = job.state == JobState::kRunning && job.open_part;
  if (job.state == JobState::kQueued || part) WakeWorkers();
}

void WorkerPool::WakeWorkers() {
  {
    MutexLock lock(&mutex_);
    ++wakes_;
  }
  changed_.NotifyAll();
}

// --- Upkeep ---

void WorkerPool::UpkeepLoop() {
  const absl::Duration interval = options_.upkeep_interval > absl::ZeroDuration()
                                      ? options_.upkeep_interval
                                      : options_.lease / 3;
  absl::Duration until_lease_ends = absl::InfiniteDuration();
  while (true) {
    {
      MutexLock lock(&mutex_);
      changed_.WaitFor(&mutex_, std::min(interval, until_lease_ends),
                       [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return draining_; });
      if (draining_) break;
    }
    until_lease_ends = RunUpkeep();
  }
  MutexLock lock(&mutex_);
  --live_threads_;
  changed_.NotifyAll();
}

// Leases are renewed first, so that no live worker's job looks lost.
absl::Duration WorkerPool::RunUpkeep() {
  const std::vector<Running> running = RunningJobs();
  for (const Running& job : running) RenewLease(job);
  const absl::StatusOr<Snapshot> snapshot = jobs_->ReadTimed();
  if (!snapshot.ok()) {
    Report("", snapshot.status());
    return absl::InfiniteDuration();
  }
  for (const Action& action : Overdue(*snapshot, options_.policy)) Act(action, running);
  // A job, or a part of another server's, may have come unnoticed, or could not be claimed.
  WakeWorkers();
  return UntilLeaseEnds(*snapshot);
}

void WorkerPool::RenewLease(const Running& running) {
  const absl::StatusOr<LeaseStatus> lease = jobs_->RenewLease(running.claim, options_.lease);
  if (absl::IsAborted(lease.status())) return running.stop->Request(StopReason::kLapsed);
  if (!lease.ok()) return Report(running.claim.id, lease.status());
  if (lease->cancel_requested) running.stop->Request(StopReason::kCancelled);
}

// A job that runs in this pool is not lost, even if its lease could not be renewed.
void WorkerPool::Act(const Action& action, const std::vector<Running>& running) {
  const auto ours = std::find_if(running.begin(), running.end(),
                                 [&](const Running& job) { return job.claim == action.claim; });
  switch (action.kind) {
    case Action::Kind::kStopTimedOut:
      if (ours != running.end()) ours->stop->Request(StopReason::kTimedOut);
      return;
    case Action::Kind::kStopCancelled:
      if (ours != running.end()) ours->stop->Request(StopReason::kCancelled);
      return;
    default:
      break;
  }
  if (ours != running.end()) return;
  const absl::Status status = Write(action);
  if (!status.ok() && !absl::IsAborted(status)) Report(action.claim.id, status);
}

absl::Status WorkerPool::Write(const Action& action) {
  switch (action.kind) {
    case Action::Kind::kRequeue:
      return jobs_->Requeue(action.claim, RequeueCause::kWorkerLost, action.message);
    case Action::Kind::kFail:
      return jobs_->Finish(action.claim, JobState::kFailed, {action.code, action.message},
                           action.message);
    case Action::Kind::kCancel:
      return jobs_->Finish(action.claim, JobState::kCancelled, {}, action.message);
    default:
      return absl::OkStatus();
  }
}

// --- Drain ---

bool WorkerPool::Drain(absl::Duration timeout) {
  std::vector<Running> left;
  {
    MutexLock lock(&mutex_);
    draining_ = true;
    for (const Running& running : running_) running.stop->Request(StopReason::kDraining);
    changed_.NotifyAll();
    changed_.WaitFor(&mutex_, timeout,
                     [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return live_threads_ == 0; });
    left = running_;
  }
  for (const Running& running : left) GiveBack(running);
  MutexLock lock(&mutex_);
  return live_threads_ == 0;
}

// Requeueing raises the fence, so that what the worker still writes is refused.
void WorkerPool::GiveBack(const Running& running) {
  if (running.stop->reason() == StopReason::kLapsed) return;
  const absl::Status status =
      jobs_->Requeue(running.claim, RequeueCause::kDraining, kServerDraining);
  running.stop->Request(StopReason::kLapsed);
  WakeWorkers();
  if (!status.ok() && !absl::IsAborted(status)) Report(running.claim.id, status);
}

}  // namespace attnprune
