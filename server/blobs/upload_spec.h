// What a client says of a tensor before it sends it: the rules, and the form in which it is kept
// beside a half-done upload.
#ifndef ATTNPRUNE_SERVER_BLOBS_UPLOAD_SPEC_H_
#define ATTNPRUNE_SERVER_BLOBS_UPLOAD_SPEC_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace attnprune {

struct UploadSpec {
  std::string upload_id;    // 1 to 128 characters [A-Za-z0-9._-]
  std::string sha256;       // of the whole tensor, 64 lower-case hexadecimal digits
  int64_t size_bytes = 0;   // of the whole tensor, at least 1
  std::string dtype;        // "F64", "F32", "F16", "BF16" or "BITMASK"
  std::string tenant = {};  // whose upload it is, and its id: empty or [a-z0-9-]

  // The upload's own among all tenants': "TENANT@UPLOAD_ID", or the id alone without a tenant.
  std::string Key() const;

  bool operator==(const UploadSpec&) const = default;
};

bool IsSha256(absl::string_view text);                                         // 64 digits 0-9a-f
std::string UploadKey(absl::string_view tenant, absl::string_view upload_id);  // UploadSpec::Key

bool IsUploadId(absl::string_view text);  // 1 to 128 characters [A-Za-z0-9._-]

// Bytes of one element, 1 for BITMASK (8 elements a byte); 0: no such dtype.
int64_t ElementBytes(absl::string_view dtype);

// INVALID_ARGUMENT by FieldError, with `field` at fault.
absl::Status CheckSha256(absl::string_view field, absl::string_view text);
absl::Status CheckUploadId(absl::string_view field, absl::string_view text);

// The first rule that spec breaks; fields are named as in UploadTensorRequest: "header.sha256" ...
absl::Status CheckUploadSpec(const UploadSpec& spec);

// One line: "attnprune-upload-1 SHA256 SIZE_BYTES DTYPE\n". Key is the file's name. Whatever is
// torn or foreign parses to nullopt.
std::string FormatSidecar(const UploadSpec& spec);
absl::optional<UploadSpec> ParseSidecar(absl::string_view key, absl::string_view line);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_UPLOAD_SPEC_H_
