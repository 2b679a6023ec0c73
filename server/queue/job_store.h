// The durable queue of jobs with their results and event logs.
//
// Promises of every store:
// - OK from a call that writes means that the write is on disk (fsync): it survives kill -9 and
//   power loss, event sequences included, so that what a watcher saw never comes again as something
//   else.
// - A call that fails has written nothing. Only when the machine fails during the call itself is it
//   open whether the write is there afterwards; Create with a request_id can simply be repeated.
// - Every change of state and its event are one transaction; so are a result and its event.
// - Each write of a worker carries its JobClaim and is refused with ABORTED when the claim has
//   lapsed: the job was requeued, claimed anew, has ended or is gone. The worker then drops its
//   work. A lease that is over refuses nothing until the job is requeued or ended.
//
// Errors, besides what each function says. NOT_FOUND: there is no such job (worker writes: ABORTED
// instead). RESOURCE_EXHAUSTED: the disk is full. DATA_LOSS: stored bytes are damaged. UNAVAILABLE:
// another program holds the database, or it cannot be reached. INTERNAL: an I/O error.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_STORE_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_STORE_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/queue/job_record.h"
#include "server/queue/scheduler.h"

namespace attnprune {

// A job as some server has left it.
struct JobChange {
  std::string job_id;
  JobState state = JobState::kQueued;
  int64_t fence = 0;
  int64_t newest_sequence = 0;    // of its events
  bool cancel_requested = false;  // while it runs
  bool open_part = false;         // a part of it may wait to be claimed
};

// Told of what was written through this store object, after the commit and, for each job, in order
// of sequence. Called with a lock of the store's held: returns quickly, never calls the store.
class JobStoreListener {
 public:
  virtual ~JobStoreListener() = default;
  // State changes (a job new or again in the queue among them), progress, results, warnings, ends.
  virtual void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) = 0;
  // A running job is to stop. Not told of jobs that ended at once.
  virtual void OnCancelRequested(const std::string& job_id) = 0;
  // A part of a running job can be claimed.
  virtual void OnPartOpened(const std::string& /*job_id*/) {}
  // Another server may have changed the job, and this is what it then was. Comes at any time after
  // the change, once for several; of this store's own changes too, which may be newer than it.
  virtual void OnRemoteChange(const JobChange& /*job*/) {}
};

// Tells each in turn: JobListeners both({&hub, &workers}); store->SetListener(&both). Thread-safe
// if they are; they must outlive it.
class JobListeners final : public JobStoreListener {
 public:
  explicit JobListeners(std::vector<JobStoreListener*> listeners)
      : listeners_(std::move(listeners)) {}

  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override {
    for (JobStoreListener* listener : listeners_) listener->OnEvents(job_id, events);
  }
  void OnCancelRequested(const std::string& job_id) override {
    for (JobStoreListener* listener : listeners_) listener->OnCancelRequested(job_id);
  }
  void OnPartOpened(const std::string& job_id) override {
    for (JobStoreListener* listener : listeners_) listener->OnPartOpened(job_id);
  }
  void OnRemoteChange(const JobChange& job) override {
    for (JobStoreListener* listener : listeners_) listener->OnRemoteChange(job);
  }

 private:
  const std::vector<JobStoreListener*> listeners_;
};

struct CreateOutcome {
  JobRecord job;
  bool created = false;  // false: the request_id was known and `job` is the one made then
};

struct JobFilter {
  std::set<JobState> states;  // empty: all
  Labels labels;              // all must match
  JobKind kind = JobKind::kMethods;
  absl::optional<std::string> tenant = absl::nullopt;  // nullopt: all
};

struct JobPage {
  std::vector<JobRecord> jobs;  // newest first
  std::string next_page_token;  // empty on the last page
};

// Where a job's event log begins and ends.
struct LogExtent {
  JobState state = JobState::kQueued;
  int64_t oldest_sequence = 1;  // as JobRecord has it
  int64_t newest_sequence = 0;  // of the last event written
  std::string tenant = {};
};

// A tensor of a tenant's.
struct OwnTensor {
  std::string digest;
  absl::optional<absl::Time> noted;  // by NoteTensors, the last time; nullopt: never, or forgotten
};

using TensorUsers = std::map<std::string, std::string>;  // job ids, by digest

struct LeaseStatus {
  absl::Time until;
  bool cancel_requested = false;
};

// A part of a running job, claimed.
struct ClaimedPart {
  JobRecord job;
  JobClaim claim;
  int results = 0;                  // that the part has stored
  std::vector<std::string> states;  // as OpenPart got them
};

struct PartStatus {
  int part = 0;
  int results = 0;  // that it has stored
  bool done = false;
};

enum class RequeueCause {
  kWorkerLost,  // counts towards SchedulerPolicy::max_losses
  kDraining,    // the worker gave the job back in order
};

struct CompactionLimits {
  // Progress events a job keeps at most; at least 1. Above that every second step goes, again and
  // again until they fit; evaluated ones only when no other is left between the ends. The curve
  // gets coarser, its ends stay.
  int64_t progress = 1000;
  // Other events a job keeps at most, newest first; at least 1. Dropping one raises
  // oldest_sequence.
  int64_t others = 10'000;
};

// Thread-safe; no call waits for another one's disk write except writes for writes.
class JobStore {
 public:
  virtual ~JobStore() = default;

  // nullptr: none. The listener must live until it is replaced.
  virtual void SetListener(JobStoreListener* listener) = 0;

  // --- Clients ---

  // Puts a job into the queue. With a request_id that its tenant has used: the same job again if
  // the digest is equal, even if the queue is full, else ALREADY_EXISTS. RESOURCE_EXHAUSTED: the
  // queue is full, or has as many of the tenant's as it may.
  virtual absl::StatusOr<CreateOutcome> Create(const NewJob& job) = 0;
  virtual absl::StatusOr<JobRecord> Get(absl::string_view id) = 0;
  // What opening a watch needs of a job; reads neither its spec nor its results.
  virtual absl::StatusOr<LogExtent> ReadLogExtent(absl::string_view id) = 0;
  // page_size: at least 1. page_token: empty, or from the page before with the same filter, else
  // INVALID_ARGUMENT. Jobs made or deleted between two pages neither repeat nor hide others.
  virtual absl::StatusOr<JobPage> List(const JobFilter& filter, int page_size,
                                       absl::string_view page_token) = 0;
  // A queued job ends at once as CANCELLED; a running one is marked (and ends so even if its worker
  // is lost); one that has ended stays as it is. Returns the job as it then is.
  virtual absl::StatusOr<JobRecord> RequestCancel(absl::string_view id) = 0;
  // A run that has failed or was cancelled is queued again, with its results and its state; a
  // timeout counts from its next start. FAILED_PRECONDITION of any other job.
  virtual absl::StatusOr<JobRecord> Resume(absl::string_view id) = 0;
  // With its events, results and references. FAILED_PRECONDITION unless the job has ended.
  virtual absl::Status Delete(absl::string_view id) = 0;

  // Events with a greater sequence, oldest first, at most `limit` (at least 1). Gaps are progress
  // that was dropped. OUT_OF_RANGE (see OldestSequence below): others were dropped after `after`.
  virtual absl::StatusOr<std::vector<StoredEvent>> ReadEvents(absl::string_view id, int64_t after,
                                                              int limit) = 0;

  // --- Workers ---

  // The job that NextJob (scheduler.h) picks, now RUNNING and leased to `owner`; nothing if none is
  // queued. Two callers never get the same job. The claim is {job.id, job.fence}.
  virtual absl::StatusOr<absl::optional<JobRecord>> Claim(absl::string_view owner,
                                                          absl::Duration lease) = 0;
  // The lease, of the job or of the part, now ends `lease` from now.
  virtual absl::StatusOr<LeaseStatus> RenewLease(const JobClaim& claim, absl::Duration lease) = 0;
  // Replaces the checkpoint of the job or of the part; any size. At every moment, a crash included,
  // the old one or the new one is there whole. One call at a time for a claim.
  virtual absl::Status SaveCheckpoint(const JobClaim& claim, absl::string_view bytes) = 0;
  // Nothing if there is none. DATA_LOSS if it is damaged or gone: the worker can start over.
  virtual absl::StatusOr<absl::optional<std::string>> ReadCheckpoint(const JobClaim& claim) = 0;
  // Returns the sequence of the first one; the others follow without a gap.
  virtual absl::StatusOr<int64_t> AppendEvents(const JobClaim& claim,
                                               absl::Span<const NewEvent> events) = 0;
  // Adds result number `method_index`, of the job or of the part, with its event and the tensors it
  // refers to, and drops the claim's checkpoint, which was that method's. FAILED_PRECONDITION
  // unless exactly the results before it are there. Returns the event's sequence. state: tensors
  // from which the job goes on, in place of those of an earlier result; nullopt: these stay. They
  // are kept until the job succeeds or is deleted.
  virtual absl::StatusOr<int64_t> FinishMethod(
      const JobClaim& claim, int method_index, absl::string_view result,
      absl::Span<const std::string> tensor_digests,
      const absl::optional<std::vector<std::string>>& state) = 0;
  absl::StatusOr<int64_t> FinishMethod(const JobClaim& claim, int method_index,
                                       absl::string_view result,
                                       absl::Span<const std::string> tensor_digests) {
    return FinishMethod(claim, method_index, result, tensor_digests, absl::nullopt);
  }
  // Ends the job, whose checkpoints are dropped; `state` is terminal, `failure` is for kFailed
  // only. Not with a part's claim. Also for queued jobs, for the scheduler (`claim.fence` from its
  // snapshot); QUEUED to SUCCEEDED is FAILED_PRECONDITION.
  virtual absl::Status Finish(const JobClaim& claim, JobState state, const Failure& failure,
                              absl::string_view reason) = 0;
  // Back into the queue, checkpoints and results kept; a job to be cancelled ends as CANCELLED
  // instead. The queue's limit does not apply. A part is open again.
  virtual absl::Status Requeue(const JobClaim& claim, RequeueCause cause,
                               absl::string_view reason) = 0;

  // --- Parts of a running job ---
  //
  // A running job can be cut into parts, which other workers than its own may claim: one job done
  // by several. What is written with a part's claim is the job's: events and results. A part has a
  // checkpoint of its own, for whoever claims it next, and cannot end its job. When the job is
  // requeued, claims on its parts lapse, and what is open or done stays so; parts go when the job
  // succeeds or is deleted.

  // Opens part number `part`, at least 0, unless it is there. states: tensors that it begins with,
  // kept until it is done.
  virtual absl::Status OpenPart(const JobClaim& claim, int part,
                                absl::Span<const std::string> states) = 0;
  // The first open part of a running job, in the order of NextJob, that is not to be cancelled;
  // nothing if none is open. A part is open that is not done and whose claim has lapsed or whose
  // lease is over.
  virtual absl::StatusOr<absl::optional<ClaimedPart>> ClaimPart(absl::Duration lease) = 0;
  // For the worker that has claimed the job itself and does one part at a time: the first open part
  // of this job, one that this worker has already among them. It lapses with the job's claim.
  virtual absl::StatusOr<absl::optional<ClaimedPart>> ClaimOwnPart(const JobClaim& job) = 0;
  // Drops the part's checkpoint. Once more is OK.
  virtual absl::Status FinishPart(const JobClaim& claim) = 0;
  virtual absl::StatusOr<std::vector<PartStatus>> ReadParts(absl::string_view id) = 0;  // in order

  // --- Tensors of tenants ---
  //
  // A tensor is stored once, whoever uploads it: this says who has shown that it has the bytes. A
  // tenant's own are those that were noted as such and those that its jobs, or their results, refer
  // to.

  // Notes them as the tenant's own, at this time; once more is OK.
  virtual absl::Status NoteTensors(absl::string_view tenant,
                                   absl::Span<const std::string> digests) = 0;
  // Those that are the tenant's own.
  virtual absl::StatusOr<std::set<std::string>> FindOwnTensors(
      absl::string_view tenant, absl::Span<const std::string> digests) = 0;
  // All of them.
  virtual absl::StatusOr<std::set<std::string>> TensorsOf(absl::string_view tenant) = 0;
  // Those whose digest is above `after` (empty: all), in order of digest, at most `limit` (at least
  // 1).
  virtual absl::StatusOr<std::vector<OwnTensor>> ListOwnTensors(absl::string_view tenant,
                                                                absl::string_view after,
                                                                int limit) = 0;
  // The newest of the tenant's jobs that refers to each, itself or by its results, by digest; what
  // none refers to is left out. nullopt: of all jobs, what they go on from (state) counts too.
  virtual absl::StatusOr<TensorUsers> FindUsers(const absl::optional<std::string>& tenant,
                                                absl::Span<const std::string> digests) = 0;
  // Forgets what was noted `grace` ago or before.
  virtual absl::Status ForgetTensors(absl::Duration grace) = 0;

  // --- Upkeep ---

  // All queued and running jobs, by the store's time.
  virtual absl::StatusOr<Snapshot> ReadOutstanding() = 0;
  // Those of which Overdue can say something: all that run, and queued ones that can time out;
  // others may be there too. Without turns. Cheaper where many wait.
  virtual absl::StatusOr<Snapshot> ReadTimed() { return ReadOutstanding(); }
  virtual absl::StatusOr<std::map<JobState, int64_t>> CountByState() = 0;  // all states, zeros too
  virtual absl::Status CompactEvents(absl::string_view id, const CompactionLimits& limits) = 0;
  // Deletes jobs that ended more than `keep` ago by the store's time, in order of creation, at most
  // `limit` (at least 1), as one write. Their ids; none: none is left.
  virtual absl::StatusOr<std::vector<std::string>> DeleteEnded(absl::Duration keep, int limit) = 0;
  // Every tensor digest that a stored job, its results or its state refer to.
  virtual absl::StatusOr<std::set<std::string>> ReferencedDigests() = 0;
  // UNAVAILABLE: what the store writes to was removed or replaced since it was opened; every write
  // says so too.
  virtual absl::Status CheckInPlace() { return absl::OkStatus(); }
};

// NOT_FOUND, of Get and its like.
absl::Status NoSuchJob(absl::string_view id);

// Of an OUT_OF_RANGE error from ReadEvents: watch again after this sequence minus 1.
absl::optional<int64_t> OldestSequence(const absl::Status& status);
absl::Status HistoryDroppedError(absl::string_view id, int64_t after, int64_t oldest_sequence);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_STORE_H_
