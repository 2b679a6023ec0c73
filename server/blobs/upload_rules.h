// The rules of uploads that every store keeps, with the words of their errors.
#ifndef ATTNPRUNE_SERVER_BLOBS_UPLOAD_RULES_H_
#define ATTNPRUNE_SERVER_BLOBS_UPLOAD_RULES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/blobs/blob_store.h"

namespace attnprune {

// Where BlobStoreLimits::max_uploads is reached, an upload is kept for so long after its last byte.
inline constexpr absl::Duration kIdleUpload = absl::Minutes(1);

// Whether `spec` may go on at `offset` where `committed` bytes of `known` are there (nullptr, 0:
// nothing is).
absl::Status CheckUploadOffset(const UploadSpec* known, int64_t committed, const UploadSpec& spec,
                               int64_t offset);
// Whether an upload may begin where `others` bytes are taken by all else: by RoughRoom.
absl::Status CheckUploadSize(const UploadSpec& spec, int64_t others, const BlobStoreLimits& limits);
// Whether its next `bytes` may come, after `received`, where `taken` are taken by all.
absl::Status CheckUploadRoom(int64_t received, int64_t bytes, int64_t taken,
                             const BlobStoreLimits& limits);
// Whether `bytes` more at `received` are within the size.
absl::Status CheckUploadEnd(const UploadSpec& spec, int64_t received, int64_t bytes);
// Whether all has come.
absl::Status CheckUploadWhole(const UploadSpec& spec, int64_t received);
absl::Status CheckUploadDigest(const UploadSpec& spec, const std::string& got);

absl::Status UploadIsHeld(const UploadSpec& spec);               // ABORTED
absl::Status TooManyUploads(const BlobStoreLimits& limits);      // RESOURCE_EXHAUSTED
absl::Status WrongSize(const UploadSpec& spec, int64_t stored);  // INVALID_ARGUMENT

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_UPLOAD_RULES_H_
