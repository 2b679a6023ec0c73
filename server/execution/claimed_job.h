// One attempt at a claimed job, whatever it is about: stopping, storing, and how it ends.
#ifndef ATTNPRUNE_SERVER_EXECUTION_CLAIMED_JOB_H_
#define ATTNPRUNE_SERVER_EXECUTION_CLAIMED_JOB_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/execution/job_runner.h"
#include "server/execution/job_writer.h"

namespace attnprune {

// One thread at a time, but for what its writer calls back. A function that returns a Status fails
// when the job has to end or to stop; what of the two, and how, is decided in End alone.
class ClaimedJob {
 public:
  // All must outlive it.
  ClaimedJob(const JobRecord& record, JobStore* jobs, BlobStore* tensors,
             const JobRunnerOptions& options, StopSignal* stop)
      : ClaimedJob(record, {record.id, record.fence}, jobs, tensors, options, stop) {}
  // claim: on the record's job or on a part of it.
  ClaimedJob(const JobRecord& record, JobClaim claim, JobStore* jobs, BlobStore* tensors,
             const JobRunnerOptions& options, StopSignal* stop);

  const JobRecord& record() const { return record_; }
  const JobClaim& claim() const { return claim_; }
  JobStore* jobs() { return jobs_; }
  BlobStore* tensors() { return tensors_; }
  const JobRunnerOptions& options() const { return options_; }
  StopSignal* stop() { return stop_; }
  JobWriter& writer() { return writer_; }

  // Whether the job is to stop; looks at the clock too.
  bool StopRequested();
  absl::Status CheckStop();  // CANCELLED if it is

  // A call of the job store, again and again while the disk is full or the database busy, until the
  // job is to stop. If it fails for another reason the job is left to another attempt.
  absl::Status Write(absl::FunctionRef<absl::Status()> write);
  // Any call, again and again while what it needs is full, busy or away, until the job is to stop.
  absl::Status Retry(absl::FunctionRef<absl::Status()> call);
  // BlobStore::Put, again and again while the disk is full.
  absl::StatusOr<std::string> Put(absl::Span<const char> bytes, absl::string_view tail = "");
  // Of the claim, again and again while it cannot be reached.
  absl::StatusOr<absl::optional<std::string>> ReadCheckpoint();
  // JobStore::FinishMethod after all progress, again and again likewise.
  absl::Status StoreResult(int index, const std::string& bytes,
                           absl::Span<const std::string> digests,
                           const absl::optional<std::vector<std::string>>& state = absl::nullopt);

  // Writes how the job ended. `status` OK: everything was done, and `outcome` says what came of it.
  // What has happened first counts: a job that has all its results is done, whatever came too late.
  // UNAVAILABLE: what it needs is away, and after a while, longer at each attempt, it is queued
  // again.
  void End(const absl::Status& status, absl::FunctionRef<absl::Status()> outcome);
  // The same of a part, which is done or given back: what becomes of the job is for its own worker
  // to find. Whether it is done, and that is written.
  bool EndPart(const absl::Status& status);

  // As if what the job store has refused to `part`, of the same job, had been this one's.
  void CarryOver(const ClaimedJob& part) { store_failed_ = store_failed_ || part.store_failed_; }

  void Report(const absl::Status& status);

 private:
  JobWriterOptions WriterOptions();
  absl::Status WriteLast(absl::FunctionRef<absl::Status()> write);
  absl::Status WriteEnd(const absl::Status& status, absl::FunctionRef<absl::Status()> outcome);
  absl::Status WriteStopped(StopReason reason);
  absl::Status Fail(const absl::Status& status);
  void AwaitReturn();  // of what is away

  const JobRecord& record_;
  const JobClaim claim_;
  const absl::Time deadline_;
  JobStore* const jobs_;
  BlobStore* const tensors_;
  const JobRunnerOptions& options_;
  StopSignal* const stop_;
  JobWriter writer_;
  bool store_failed_ = false;  // the job store took no result: the job is left to another attempt
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_CLAIMED_JOB_H_
