// Removes tensors that no job refers to, again and again.
#ifndef ATTNPRUNE_SERVER_UPKEEP_TENSOR_COLLECTOR_H_
#define ATTNPRUNE_SERVER_UPKEEP_TENSOR_COLLECTOR_H_

#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/blobs/blob_store.h"
#include "server/queue/job_store.h"

namespace attnprune {

struct TensorCollectorOptions {
  absl::Duration grace = absl::Hours(24);       // see BlobStore::Collect
  absl::Duration interval = absl::Minutes(10);  // of real time between two rounds
};

// One round of it: notes of tenants' tensors go by the same grace; then what the jobs refer to is
// read, and the rest collected.
absl::StatusOr<Collected> CollectTensors(JobStore* jobs, BlobStore* tensors, absl::Duration grace);

// A thread that does so every interval, the first time at once, from construction to destruction.
// Both stores must outlive it. Thread-safe.
class TensorCollector {
 public:
  TensorCollector(const TensorCollectorOptions& options, JobStore* jobs, BlobStore* tensors);
  ~TensorCollector();

 private:
  void Loop();

  const TensorCollectorOptions options_;
  JobStore* const jobs_;
  BlobStore* const tensors_;
  Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::jthread thread_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_UPKEEP_TENSOR_COLLECTOR_H_
