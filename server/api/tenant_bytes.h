// How much of the tensor store is one tenant's, and how much may be.
#ifndef ATTNPRUNE_SERVER_API_TENANT_BYTES_H_
#define ATTNPRUNE_SERVER_API_TENANT_BYTES_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/blobs/blob_store.h"
#include "server/blobs/upload_spec.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// Counts the tensors that a tenant has uploaded or that its jobs refer to, each once, and what came
// of its unfinished uploads; those of jobs that store results meanwhile up to kRecent late.
// Thread-safe.
class TenantBytes {
 public:
  // limit 0: none. All must outlive it.
  TenantBytes(int64_t limit, BlobStore* tensors, JobStore* jobs, const Clock* clock)
      : limit_(limit), tensors_(tensors), jobs_(jobs), clock_(clock) {}

  // Whether all of an upload would fit that is to begin or go on; what there is of it already
  // counts as room. Takes none. RESOURCE_EXHAUSTED: says how much the tenant has. Errors of
  // JobStore and BlobStore::CommittedBytes.
  absl::Status CheckRoom(const UploadSpec& spec);
  // Whether the next bytes of one of the tenant's uploads fit. Messages of several uploads that
  // come at the same moment may all pass, so the limit is kept to within a message an IO thread.
  absl::Status CheckNext(const std::string& tenant, int64_t bytes);
  // An upload of it is finished.
  void Add(const std::string& tenant, int64_t size);

  static constexpr absl::Duration kRecent = absl::Seconds(10);

 private:
  struct Counted {
    absl::Time time;
    int64_t bytes = 0;
  };

  absl::StatusOr<int64_t> StoredBytes(const std::string& tenant);

  const int64_t limit_;
  BlobStore* const tensors_;
  JobStore* const jobs_;
  const Clock* const clock_;
  Mutex mutex_;
  std::map<std::string, Counted> counted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_TENANT_BYTES_H_
