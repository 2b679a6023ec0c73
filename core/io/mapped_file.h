// A file's bytes as read-only memory.
#ifndef ATTNPRUNE_CORE_IO_MAPPED_FILE_H_
#define ATTNPRUNE_CORE_IO_MAPPED_FILE_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/io/mapping_guard.h"

namespace attnprune {

// Move-only; bytes() keeps its address when moved. Concurrent reads are fine. Where others truncate
// the file while it is mapped, zeros are read, which CheckMapped (mapping_guard.h) tells
// afterwards: it is called once bytes have been read, by every reader here and by who reads them
// elsewhere. Replacing the file by rename (as WriteFileAtomically does) is safe.
class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT if it is not a regular file; each names path.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  // Of a regular file that is open for reading, one of this process's own: it is not guarded. fd
  // may be closed afterwards. path: for messages.
  static absl::StatusOr<MappedFile> Map(int fd, const std::string& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::Span<const char> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const char* data, size_t size) : data_(data), size_(size) {}

  const char* data_ = nullptr;  // null if the file is empty
  size_t size_ = 0;
  GuardedMapping* guard_ = nullptr;
};

// Tells the system that bytes of a MappedFile are not needed soon: they leave the process's memory,
// stay in the system's cache while it has room, and are read again when they are looked at.
void ReleasePages(absl::Span<const char> bytes);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_MAPPED_FILE_H_
