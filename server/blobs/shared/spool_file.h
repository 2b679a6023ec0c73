// Bytes on their way to a place, in a nameless file of this machine's: they take no memory, and go
// with the process.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_SPOOL_FILE_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_SPOOL_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/io/file.h"
#include "core/io/mapped_file.h"

namespace attnprune {

// One thread at a time.
class SpoolFile {
 public:
  // folder: must exist.
  explicit SpoolFile(std::string folder) : folder_(std::move(folder)) {}

  int64_t size() const { return size_; }
  absl::Status Append(absl::Span<const char> bytes);
  absl::StatusOr<MappedFile> Map() const;  // until it is cleared; size() must not be 0
  absl::Status Clear();

 private:
  absl::Status Open();

  const std::string folder_;
  File file_;
  int64_t size_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_SPOOL_FILE_H_
