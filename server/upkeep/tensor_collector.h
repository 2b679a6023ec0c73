// Removes tensors that no job refers to.
#ifndef ATTNPRUNE_SERVER_UPKEEP_TENSOR_COLLECTOR_H_
#define ATTNPRUNE_SERVER_UPKEEP_TENSOR_COLLECTOR_H_

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/blobs/blob_store.h"
#include "server/queue/job_store.h"

namespace attnprune {

// Notes of tenants' tensors go by the same grace; then what the jobs refer to is read, and the rest
// collected (BlobStore::Collect).
absl::StatusOr<Collected> CollectTensors(JobStore* jobs, BlobStore* tensors, absl::Duration grace);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_UPKEEP_TENSOR_COLLECTOR_H_
