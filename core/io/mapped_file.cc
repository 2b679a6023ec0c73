#include "core/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"

namespace attnprune {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // O_NONBLOCK: opening a pipe must be refused below, not wait for a writer.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return ErrnoError(errno, path, "open");
  const absl::Cleanup close_it = [fd] { close(fd); };
  ATTNPRUNE_ASSIGN_OR_RETURN(MappedFile file, Map(fd, path));
  if (file.size_ > 0) file.guard_ = GuardMapping(file.data_, file.size_, fd, path);
  return file;
}

absl::StatusOr<MappedFile> MappedFile::Map(int fd, const std::string& path) {
  struct stat facts;
  if (fstat(fd, &facts) != 0) return ErrnoError(errno, path, "stat");
  if (!S_ISREG(facts.st_mode)) {
    return Refuse(path, ": must be a regular file, got a ",
                  S_ISDIR(facts.st_mode) ? "folder" : "device or pipe");
  }
  if (facts.st_size == 0) return MappedFile();
  const size_t size = static_cast<size_t>(facts.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) return ErrnoError(errno, path, "map into memory");
  return MappedFile(static_cast<const char*>(data), size);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(guard_, other.guard_);
  return *this;
}

MappedFile::~MappedFile() {
  ReleaseMapping(guard_);  // first: another mapping may get the same address next
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

void ReleasePages(absl::Span<const char> bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t past = reinterpret_cast<uintptr_t>(bytes.data()) % page;
  const size_t skip = past == 0 ? 0 : page - past;  // to the first whole page
  if (bytes.size() < skip + page) return;
  const size_t whole = (bytes.size() - skip) / page * page;
  madvise(const_cast<char*>(bytes.data()) + skip, whole, MADV_DONTNEED);
}

}  // namespace attnprune
