#include "server/blobs/upload_rules.h"

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "server/blobs/disk_room.h"

namespace attnprune {

absl::Status CheckUploadOffset(const UploadSpec* known, int64_t committed, const UploadSpec& spec,
                               int64_t offset) {
  if (offset == 0) return absl::OkStatus();  // starts anew
  // Whatever their dtypes: those are no part of what is stored.
  const bool other =
      known != nullptr && (known->sha256 != spec.sha256 || known->size_bytes != spec.size_bytes);
  if (other) {
    return FieldError(
        "header.upload_id",
        absl::StrCat("must be the one of this tensor, ", spec.upload_id, " is of tensor ",
                     known->sha256, " of ", known->size_bytes, " bytes"));
  }
  if (offset == committed) return absl::OkStatus();
  return WithField(
      absl::OutOfRangeError(absl::StrCat("header.offset must be ", committed,
                                         ", where the upload stands, or 0, got ", offset)),
      "header.offset");
}

absl::Status CheckUploadSize(const UploadSpec& spec, int64_t others,
                             const BlobStoreLimits& limits) {
  if (spec.size_bytes > limits.max_tensor_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "header.size_bytes must be at most max_tensor_bytes = ", limits.max_tensor_bytes, ", got ",
        spec.size_bytes));
  }
  // How much is taken is not said: by it a tenant would learn whether others have its tensor too.
  const int64_t room = limits.max_total_bytes - others;
  if (spec.size_bytes <= RoughRoom(room, limits.max_total_bytes)) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("tensors must take at most max_total_tensor_bytes = ", limits.max_total_bytes,
                   " together, and for the ", spec.size_bytes, " of this one there is no room"));
}

absl::Status CheckUploadRoom(int64_t received, int64_t bytes, int64_t taken,
                             const BlobStoreLimits& limits) {
  if (bytes <= limits.max_total_bytes - taken) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("tensors must take at most max_total_tensor_bytes = ", limits.max_total_bytes,
                   " together, and after ", received,
                   " bytes of this one there is no room for the next ", bytes));
}

absl::Status CheckUploadEnd(const UploadSpec& spec, int64_t received, int64_t bytes) {
  if (bytes <= spec.size_bytes - received) return absl::OkStatus();
  return FieldError("data", absl::StrCat("must end at header.size_bytes = ", spec.size_bytes,
                                         ", got ", bytes, " bytes at ", received));
}

absl::Status CheckUploadWhole(const UploadSpec& spec, int64_t received) {
  if (received == spec.size_bytes) return absl::OkStatus();
  return FieldError(
      "data", absl::StrCat("must have header.size_bytes = ", spec.size_bytes, " bytes in all, got ",
                           received, "; the upload can go on from there"));
}

absl::Status CheckUploadDigest(const UploadSpec& spec, const std::string& got) {
  if (got == spec.sha256) return absl::OkStatus();
  return FieldError("header.sha256", absl::StrCat("must be the digest of the data, expected ",
                                                  spec.sha256, ", got ", got));
}

absl::Status UploadIsHeld(const UploadSpec& spec) {
  return absl::AbortedError(
      absl::StrCat("upload ", spec.upload_id, " is being written by another stream"));
}

absl::Status TooManyUploads(const BlobStoreLimits& limits) {
  return absl::ResourceExhaustedError(absl::StrCat("unfinished uploads must be at most ",
                                                   limits.max_uploads, ", the limit is reached"));
}

absl::Status WrongSize(const UploadSpec& spec, int64_t stored) {
  return FieldError("header.size_bytes", absl::StrCat("must be ", stored, ", the size of tensor ",
                                                      spec.sha256, ", got ", spec.size_bytes));
}

}  // namespace attnprune
