// What TensorService does: a blob store seen with a tenant's eyes.
//
// A tensor is stored once, whoever uploads it, and is there only for tenants that have shown that
// they have its bytes, or whose jobs made them (JobStore::NoteTensors). To others it is as if it
// were not stored: not found, missing, and to be uploaded whole. Admins see what is stored.
#ifndef ATTNPRUNE_SERVER_API_TENSOR_API_H_
#define ATTNPRUNE_SERVER_API_TENSOR_API_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attnprune/v1/tensor_service.pb.h"
#include "server/access/caller.h"
#include "server/api/tenant_bytes.h"
#include "server/blobs/blob_store.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// Of one FindMissing. INVALID_ARGUMENT (sha256): above 10,000. Pure.
absl::Status CheckDigestCount(int64_t digests);

// Thread-safe. Calls may wait for the disk. Errors, besides what is said here: of BlobStore and
// JobStore.
class TensorApi {
 public:
  // All must outlive it. owners: may be null where every caller is access::Everyone(). bytes: may
  // be null: no tenant has a limit of its own.
  TensorApi(BlobStore* tensors, JobStore* owners, TenantBytes* bytes = nullptr)
      : tensors_(tensors), owners_(owners), bytes_(bytes) {}

  // As BlobStore's of the same names.
  absl::StatusOr<std::vector<std::string>> FindMissing(const access::Caller& caller,
                                                       absl::Span<const std::string> digests) const;
  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const access::Caller& caller, UploadSpec spec,
                                                      int64_t offset) const;
  absl::StatusOr<int64_t> CommittedBytes(const access::Caller& caller,
                                         const std::string& upload_id) const;
  absl::StatusOr<std::unique_ptr<BlobReader>> OpenForReading(const access::Caller& caller,
                                                             const std::string& sha256) const;

  // Upload::Append, within the tenant's limit: an upload that would pass it is removed, as one for
  // which the disk has no room.
  absl::Status Append(const access::Caller& caller, Upload& upload, absl::Span<const char> data,
                      absl::FunctionRef<void()> on_written) const;

  // Upload::Finish, unless it was already there; OK means that the tensor is the caller's too, on
  // disk.
  absl::Status FinishUpload(const access::Caller& caller, Upload& upload) const;

  // See tensor_list.h. Notes nothing, begins no grace anew; so does SizeOf.
  absl::StatusOr<v1::ListTensorsResponse> ListTensors(const access::Caller& caller,
                                                      const v1::ListTensorsRequest& request) const;
  absl::StatusOr<int64_t> SizeOf(const access::Caller& caller, const std::string& sha256) const;

 private:
  absl::Status NoteOwn(const std::string& tenant, absl::Span<const std::string> digests,
                       std::set<std::string>* own) const;
  absl::StatusOr<bool> IsThere(const access::Caller& caller, const std::string& sha256) const;
  bool HasLimit(const access::Caller& caller) const;

  BlobStore* const tensors_;
  JobStore* const owners_;
  TenantBytes* const bytes_;
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_TENSOR_API_H_
