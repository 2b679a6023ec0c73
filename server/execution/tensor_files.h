// The bytes of a job's tensors in the blob store.
#ifndef ATTNPRUNE_SERVER_EXECUTION_TENSOR_FILES_H_
#define ATTNPRUNE_SERVER_EXECUTION_TENSOR_FILES_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/io/mapped_file.h"
#include "server/blobs/blob_store.h"
#include "server/execution/job_tensor.h"

namespace attnprune {

// The store's error about a tensor, naming its field. One that cannot be had is lost, DATA_LOSS:
// the API checked that it was there, and the job keeps it from collection.
absl::Status TensorError(const JobTensor& tensor, const absl::Status& status);

// Hashes the tensor. DATA_LOSS names the field.
absl::Status VerifyTensor(BlobStore* tensors, const JobTensor& tensor);
absl::StatusOr<MappedFile> MapTensor(const BlobStore& tensors, const JobTensor& tensor);
// Once its bytes were read: DATA_LOSS naming the field if they may not have been what was verified.
absl::Status CheckRead(const JobTensor& tensor, const MappedFile& file);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_TENSOR_FILES_H_
