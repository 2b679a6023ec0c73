// The rules of a job's life, the same for every database that has transactions: the queue's limit,
// idempotent requests, claims and fences, checkpoints, results, events, ends, compaction.
#ifndef ATTNPRUNE_SERVER_QUEUE_TRANSACTIONAL_JOB_STORE_H_
#define ATTNPRUNE_SERVER_QUEUE_TRANSACTIONAL_JOB_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/job_edit.h"
#include "server/queue/job_news.h"
#include "server/queue/job_rows.h"
#include "server/queue/job_store.h"

namespace attnprune {

struct TransactionalJobStoreOptions {
  int64_t max_queued_jobs = 10'000;      // Create refuses when this many are queued
  int64_t max_queued_per_tenant = 0;     // or this many of the tenant's; 0: no limit
  int64_t max_running_per_tenant = 0;    // more of a tenant's wait in the queue; 0: no limit
  JobStoreListener* listener = nullptr;  // as SetListener
};

// Each call that writes is one transaction of the database (SaveCheckpoint: one of the checkpoint
// store before it). The listener is told after the commit; where the database does not write in
// parallel, still under the writer lock.
class TransactionalJobStore final : public JobStore {
 public:
  TransactionalJobStore(std::unique_ptr<JobDatabase> database,
                        std::shared_ptr<const CheckpointStore> checkpoints,
                        const TransactionalJobStoreOptions& options = {})
      : max_queued_jobs_(options.max_queued_jobs),
        max_queued_per_tenant_(options.max_queued_per_tenant),
        max_running_per_tenant_(options.max_running_per_tenant),
        checkpoints_(std::move(checkpoints)),
        news_(options.listener),
        database_(std::move(database)) {
    database_->Follow([this](absl::Span<const JobChange> changes) { news_.TellChanges(changes); });
  }

  // Before any other call, for the only server that claims jobs as `owner`, nullopt: at all. No
  // such job is running any more: they are requeued, failed after too many losses, or ended if they
  // were to be cancelled.
  absl::Status TakeBackRunningJobs(const SchedulerPolicy& policy,
                                   const absl::optional<std::string>& owner = absl::nullopt);

  void SetListener(JobStoreListener* listener) override { news_.SetListener(listener); }

  absl::StatusOr<CreateOutcome> Create(const NewJob& job) override;
  absl::StatusOr<JobRecord> Get(absl::string_view id) override;
  absl::StatusOr<LogExtent> ReadLogExtent(absl::string_view id) override;
  absl::StatusOr<JobPage> List(const JobFilter& filter, int page_size,
                               absl::string_view page_token) override;
  absl::StatusOr<JobRecord> RequestCancel(absl::string_view id) override;
  absl::StatusOr<JobRecord> Resume(absl::string_view id) override;
  absl::Status Delete(absl::string_view id) override;
  absl::StatusOr<std::vector<StoredEvent>> ReadEvents(absl::string_view id, int64_t after,
                                                      int limit) override;

  absl::StatusOr<absl::optional<JobRecord>> Claim(absl::string_view owner,
                                                  absl::Duration lease) override;
  absl::StatusOr<LeaseStatus> RenewLease(const JobClaim& claim, absl::Duration lease) override;
  absl::Status SaveCheckpoint(const JobClaim& claim, absl::string_view bytes) override;
  absl::StatusOr<absl::optional<std::string>> ReadCheckpoint(const JobClaim& claim) override;
  absl::StatusOr<int64_t> AppendEvents(const JobClaim& claim,
                                       absl::Span<const NewEvent> events) override;
  using JobStore::FinishMethod;
  absl::StatusOr<int64_t> FinishMethod(
      const JobClaim& claim, int method_index, absl::string_view result,
      absl::Span<const std::string> tensor_digests,
      const absl::optional<std::vector<std::string>>& state) override;
  absl::Status Finish(const JobClaim& claim, JobState state, const Failure& failure,
                      absl::string_view reason) override;
  absl::Status Requeue(const JobClaim& claim, RequeueCause cause,
                       absl::string_view reason) override;

  absl::Status OpenPart(const JobClaim& claim, int part,
                        absl::Span<const std::string> states) override;
  absl::StatusOr<absl::optional<ClaimedPart>> ClaimPart(absl::Duration lease) override;
  absl::StatusOr<absl::optional<ClaimedPart>> ClaimOwnPart(const JobClaim& job) override;
  absl::Status FinishPart(const JobClaim& claim) override;
  absl::StatusOr<std::vector<PartStatus>> ReadParts(absl::string_view id) override;

  absl::Status NoteTensors(absl::string_view tenant,
                           absl::Span<const std::string> digests) override;
  absl::StatusOr<std::set<std::string>> FindOwnTensors(
      absl::string_view tenant, absl::Span<const std::string> digests) override;
  absl::StatusOr<std::set<std::string>> TensorsOf(absl::string_view tenant) override;
  absl::StatusOr<std::vector<OwnTensor>> ListOwnTensors(absl::string_view tenant,
                                                        absl::string_view after,
                                                        int limit) override;
  absl::StatusOr<TensorUsers> FindUsers(const absl::optional<std::string>& tenant,
                                        absl::Span<const std::string> digests) override;
  absl::Status ForgetTensors(absl::Duration grace) override;

  absl::StatusOr<Snapshot> ReadOutstanding() override;
  absl::StatusOr<Snapshot> ReadTimed() override;
  absl::StatusOr<std::map<JobState, int64_t>> CountByState() override;
  absl::Status CompactEvents(absl::string_view id, const CompactionLimits& limits) override;
  absl::StatusOr<std::vector<std::string>> DeleteEnded(absl::Duration keep, int limit) override;
  absl::StatusOr<std::set<std::string>> ReferencedDigests() override;
  absl::Status CheckInPlace() override { return database_->CheckInPlace(); }

 private:
  // Run body(rows), which returns a StatusOr, and body(rows, post_commit), which may return a
  // Status, as one transaction; after the commit Write also does what post_commit says.
  template <typename Body>
  auto Read(Body body) -> std::invoke_result_t<Body, JobReader&>;
  template <typename Body>
  auto Write(Body body) -> std::invoke_result_t<Body, JobRows&, PostCommit&>;
  absl::Status WriteInTurn(absl::FunctionRef<absl::Status()> write);
  void Conclude(const PostCommit& post_commit, JobNews::Turn& turn);

  absl::StatusOr<CreateOutcome> Insert(const NewJob& job, JobRows& rows,
                                       PostCommit& post_commit) const;
  absl::StatusOr<JobRow> ReadRunning(const JobClaim& claim);
  absl::StatusOr<bool> HasCheckpoint(const JobRow& row);  // its own or a part's
  absl::Status TakeBack(const JobRow& row, absl::Time now, const SchedulerPolicy& policy);

  absl::Status CheckRoom(absl::string_view tenant, JobRows& rows) const;

  const int64_t max_queued_jobs_, max_queued_per_tenant_, max_running_per_tenant_;
  const std::shared_ptr<const CheckpointStore> checkpoints_;

  Mutex write_mutex_;  // unless they write in parallel, writers wait for each other's fsync
  JobNews news_;
  const std::unique_ptr<JobDatabase> database_;  // dies first: it tells news_ of changes
};

OutstandingJob Outstanding(const JobRow& row);

// --- implementation ---

template <typename Body>
auto TransactionalJobStore::Read(Body body) -> std::invoke_result_t<Body, JobReader&> {
  std::invoke_result_t<Body, JobReader&> result = absl::UnknownError("");
  const absl::Status status = database_->Read([&](JobReader& rows) -> absl::Status {
    result = body(rows);
    return result.status();
  });
  if (!status.ok()) return status;
  return result;
}

template <typename Body>
auto TransactionalJobStore::Write(Body body) -> std::invoke_result_t<Body, JobRows&, PostCommit&> {
  std::invoke_result_t<Body, JobRows&, PostCommit&> result = absl::UnknownError("");
  PostCommit post_commit;
  JobNews::Turn turn(&news_);
  const auto run = [&](JobRows& rows) -> absl::Status {
    turn.Drop();
    post_commit = PostCommit();
    result = body(rows, post_commit);
    absl::Status status;
    if constexpr (std::is_same_v<decltype(result), absl::Status>) {
      status = result;
    } else {
      status = result.status();
    }
    if (status.ok() && !post_commit.job_id.empty()) turn.Take(post_commit.job_id);
    return status;
  };
  absl::Status status = WriteInTurn([&]() -> absl::Status {
    absl::Status written = database_->Write(run);
    if (written.ok()) Conclude(post_commit, turn);
    return written;
  });
  if (!status.ok()) return status;
  return result;
}

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_TRANSACTIONAL_JOB_STORE_H_
