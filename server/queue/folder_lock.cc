#include "server/queue/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

std::string OwnerOf(int fd) {
  char text[32];
  const ssize_t size = pread(fd, text, sizeof text, 0);
  if (size <= 0) return "";
  return absl::StrCat(" (process ", absl::StripAsciiWhitespace({text, static_cast<size_t>(size)}),
                      ")");
}

// Only for the message that another server prints: a full disk does not stop this one here.
void WriteOwner(int fd) {
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid.data(), pid.size(), 0) < 0) return;
}

}  // namespace

absl::StatusOr<FolderLock> FolderLock::Acquire(const std::string& folder) {
  if (mkdir(folder.c_str(), 0777) != 0 && errno != EEXIST) {
    return ErrnoError(errno, folder, "make the data folder");
  }
  const std::string path = folder + "/lock";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0 && errno == ELOOP) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": must be a file, is a link"));
  }
  if (fd < 0) return ErrnoError(errno, path, "open");
  FolderLock lock(folder, fd);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoError(errno, path, "lock");
    return absl::FailedPreconditionError(
        absl::StrCat("data folder ", folder, " is in use by another server", OwnerOf(fd)));
  }
  WriteOwner(fd);
  return lock;
}

FolderLock::FolderLock(std::string folder, int fd) : folder_(std::move(folder)), fd_(fd) {}

FolderLock::FolderLock(FolderLock&& other) noexcept
    : folder_(std::move(other.folder_)), fd_(std::exchange(other.fd_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(folder_, other.folder_);
  std::swap(fd_, other.fd_);
  return *this;
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) close(fd_);
}

}  // namespace attnprune
