#include "server/execution/tensor_files.h"

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"

namespace attnprune {

absl::Status TensorError(const JobTensor& tensor, const absl::Status& status) {
  if (absl::IsNotFound(status)) {
    return WithField(absl::DataLossError(absl::StrCat(tensor.field, ": tensor ", tensor.sha256,
                                                      " is no longer stored")),
                     tensor.field);
  }
  return WithField(absl::Status(status.code(), absl::StrCat(tensor.field, ": ", status.message())),
                   tensor.field);
}

absl::Status VerifyTensor(BlobStore* tensors, const JobTensor& tensor) {
  const absl::Status status = tensors->Verify(tensor.sha256);
  return status.ok() ? status : TensorError(tensor, status);
}

absl::StatusOr<MappedFile> MapTensor(const BlobStore& tensors, const JobTensor& tensor) {
  absl::StatusOr<MappedFile> file = tensors.Map(tensor.sha256, tensor.bytes());
  if (!file.ok()) return TensorError(tensor, file.status());
  return file;
}

absl::Status CheckRead(const JobTensor& tensor, const MappedFile& file) {
  const absl::Status status = CheckMapped(file.bytes());
  return status.ok() ? status : TensorError(tensor, status);
}

}  // namespace attnprune
