// A job store that stops working, for tests of what its users do then.
#ifndef ATTNPRUNE_TESTS_SERVER_EXECUTION_FAILING_STORE_H_
#define ATTNPRUNE_TESTS_SERVER_EXECUTION_FAILING_STORE_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "server/queue/job_store.h"

namespace attnprune::testing {

// Asks `fate` before each write of a worker, by order of these writes from 1, and fails as it says.
// Everything else goes to the base. Thread-safe.
class FailingStore final : public JobStore {
 public:
  using Fate = std::function<absl::Status(int write)>;
  FailingStore(JobStore* base, Fate fate) : base_(base), fate_(std::move(fate)) {}

  int writes() {
    MutexLock lock(&mutex_);
    return writes_;
  }

  absl::StatusOr<int64_t> AppendEvents(const JobClaim& claim,
                                       absl::Span<const NewEvent> events) override {
    if (absl::Status status = NextFate(); !status.ok()) return status;
    return base_->AppendEvents(claim, events);
  }
  absl::Status SaveCheckpoint(const JobClaim& claim, absl::string_view bytes) override {
    if (absl::Status status = NextFate(); !status.ok()) return status;
    return base_->SaveCheckpoint(claim, bytes);
  }
  absl::StatusOr<int64_t> FinishMethod(
      const JobClaim& claim, int index, absl::string_view result,
      absl::Span<const std::string> digests,
      const absl::optional<std::vector<std::string>>& state) override {
    if (absl::Status status = NextFate(); !status.ok()) return status;
    return base_->FinishMethod(claim, index, result, digests, state);
  }
  absl::Status Finish(const JobClaim& claim, JobState state, const Failure& failure,
                      absl::string_view reason) override {
    if (absl::Status status = NextFate(); !status.ok()) return status;
    return base_->Finish(claim, state, failure, reason);
  }
  absl::Status Requeue(const JobClaim& claim, RequeueCause cause,
                       absl::string_view reason) override {
    if (absl::Status status = NextFate(); !status.ok()) return status;
    return base_->Requeue(claim, cause, reason);
  }

  void SetListener(JobStoreListener* listener) override { base_->SetListener(listener); }
  absl::StatusOr<CreateOutcome> Create(const NewJob& job) override { return base_->Create(job); }
  absl::StatusOr<JobRecord> Get(absl::string_view id) override { return base_->Get(id); }
  absl::StatusOr<LogExtent> ReadLogExtent(absl::string_view id) override {
    return base_->ReadLogExtent(id);
  }
  absl::StatusOr<JobRecord> Resume(absl::string_view id) override { return base_->Resume(id); }
  absl::StatusOr<JobPage> List(const JobFilter& filter, int size,
                               absl::string_view token) override {
    return base_->List(filter, size, token);
  }
  absl::StatusOr<JobRecord> RequestCancel(absl::string_view id) override {
    return base_->RequestCancel(id);
  }
  absl::Status Delete(absl::string_view id) override { return base_->Delete(id); }
  absl::StatusOr<std::vector<StoredEvent>> ReadEvents(absl::string_view id, int64_t after,
                                                      int limit) override {
    return base_->ReadEvents(id, after, limit);
  }
  absl::StatusOr<absl::optional<JobRecord>> Claim(absl::string_view owner,
                                                  absl::Duration lease) override {
    return base_->Claim(owner, lease);
  }
  absl::StatusOr<LeaseStatus> RenewLease(const JobClaim& claim, absl::Duration lease) override {
    return base_->RenewLease(claim, lease);
  }
  absl::StatusOr<absl::optional<std::string>> ReadCheckpoint(const JobClaim& claim) override {
    return base_->ReadCheckpoint(claim);
  }
  absl::Status OpenPart(const JobClaim& claim, int part,
                        absl::Span<const std::string> states) override {
    if (absl::Status status = NextFate(); !status.ok()) return status;
    return base_->OpenPart(claim, part, states);
  }
  absl::StatusOr<absl::optional<ClaimedPart>> ClaimPart(absl::Duration lease) override {
    return base_->ClaimPart(lease);
  }
  absl::StatusOr<absl::optional<ClaimedPart>> ClaimOwnPart(const JobClaim& job) override {
    return base_->ClaimOwnPart(job);
  }
  absl::Status FinishPart(const JobClaim& claim) override {
    if (absl::Status status = NextFate(); !status.ok()) return status;
    return base_->FinishPart(claim);
  }
  absl::StatusOr<std::vector<PartStatus>> ReadParts(absl::string_view id) override {
    return base_->ReadParts(id);
  }
  absl::Status NoteTensors(absl::string_view tenant,
                           absl::Span<const std::string> digests) override {
    return base_->NoteTensors(tenant, digests);
  }
  absl::StatusOr<std::set<std::string>> FindOwnTensors(
      absl::string_view tenant, absl::Span<const std::string> digests) override {
    return base_->FindOwnTensors(tenant, digests);
  }
  absl::StatusOr<std::set<std::string>> TensorsOf(absl::string_view tenant) override {
    return base_->TensorsOf(tenant);
  }
  absl::StatusOr<std::vector<OwnTensor>> ListOwnTensors(absl::string_view tenant,
                                                        absl::string_view after,
                                                        int limit) override {
    return base_->ListOwnTensors(tenant, after, limit);
  }
  absl::StatusOr<TensorUsers> FindUsers(const absl::optional<std::string>& tenant,
                                        absl::Span<const std::string> digests) override {
    return base_->FindUsers(tenant, digests);
  }
  absl::Status ForgetTensors(absl::Duration grace) override { return base_->ForgetTensors(grace); }
  absl::StatusOr<Snapshot> ReadOutstanding() override { return base_->ReadOutstanding(); }
  absl::StatusOr<Snapshot> ReadTimed() override { return base_->ReadTimed(); }
  absl::StatusOr<std::map<JobState, int64_t>> CountByState() override {
    return base_->CountByState();
  }
  absl::Status CompactEvents(absl::string_view id, const CompactionLimits& limits) override {
    return base_->CompactEvents(id, limits);
  }
  absl::StatusOr<std::vector<std::string>> DeleteEnded(absl::Duration keep, int limit) override {
    return base_->DeleteEnded(keep, limit);
  }
  absl::StatusOr<std::set<std::string>> ReferencedDigests() override {
    return base_->ReferencedDigests();
  }

 private:
  absl::Status NextFate() {
    MutexLock lock(&mutex_);
    return fate_(++writes_);
  }

  JobStore* const base_;
  const Fate fate_;
  Mutex mutex_;
  int writes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_EXECUTION_FAILING_STORE_H_
