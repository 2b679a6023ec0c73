// The rows that a claim lets a worker write to.
#ifndef ATTNPRUNE_SERVER_QUEUE_CLAIMED_ROWS_H_
#define ATTNPRUNE_SERVER_QUEUE_CLAIMED_ROWS_H_

#include "absl/status/statusor.h"
#include "server/queue/job_rows.h"

namespace attnprune {

// ABORTED unless the claim is the latest one and the job has not ended; one on a part also unless
// the job is running and the part is not done.
absl::StatusOr<JobRow> FindClaimed(JobReader& rows, const JobClaim& claim);
// ABORTED, too, unless the job is running.
absl::StatusOr<JobRow> FindRunning(JobReader& rows, const JobClaim& claim);
// Of a claim on a part of this job.
absl::StatusOr<PartRow> FindClaimedPart(JobReader& rows, const JobRow& job, const JobClaim& claim);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_CLAIMED_ROWS_H_
