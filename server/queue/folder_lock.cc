#include "server/queue/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
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

// Whether it is ours now. Not an error where the file system locks no folders.
absl::StatusOr<bool> TryLock(int fd, const std::string& path) {
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  struct stat facts;
  const int error = errno;
  if (fstat(fd, &facts) == 0 && S_ISDIR(facts.st_mode)) return true;
  return ErrnoError(error, path, "lock");
}

// What others may do with a folder that is ours is taken from them: all that is in it is the
// server's. Of another user's, such as a volume's root, the group is the one that it was shared
// with.
std::string CloseToOthers(int fd, const std::string& folder) {
  struct stat facts;
  if (fstat(fd, &facts) != 0) return "";
  const mode_t mode = facts.st_mode & 07777;
  const bool ours = facts.st_uid == geteuid();
  if ((mode & (ours ? 0077 : 0007)) == 0) return "";
  if (ours && fchmod(fd, mode & 07700) == 0) {
    return absl::StrFormat(
        "%s had mode %04o: now %04o, since its jobs and tensors are nobody else's", folder, mode,
        mode & 07700);
  }
  return absl::StrFormat("%s has mode %04o: other users may read its jobs and tensors", folder,
                         mode);
}

absl::StatusOr<int> OpenLockFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 && errno == ELOOP) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": must be a file, is a link"));
  }
  if (fd < 0) return ErrnoError(errno, path, "open");
  return fd;
}

}  // namespace

absl::StatusOr<FolderLock> FolderLock::Acquire(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoError(errno, folder, "make the data folder");
  }
  const int folder_fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd < 0) return ErrnoError(errno, folder, "open the data folder");
  FolderLock lock(folder, folder_fd, -1);
  const std::string path = folder + "/lock";
  ATTNPRUNE_ASSIGN_OR_RETURN(lock.file_fd_, OpenLockFile(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool folder_is_ours, TryLock(folder_fd, folder));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool file_is_ours, TryLock(lock.file_fd_, path));
  if (!folder_is_ours || !file_is_ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "data folder ", folder, " is in use by another server", OwnerOf(lock.file_fd_)));
  }
  WriteOwner(lock.file_fd_);
  lock.notice_ = CloseToOthers(folder_fd, folder);
  return lock;
}

FolderLock::FolderLock(std::string folder, int folder_fd, int file_fd)
    : folder_(std::move(folder)), folder_fd_(folder_fd), file_fd_(file_fd) {}

FolderLock::FolderLock(FolderLock&& other) noexcept
    : folder_(std::move(other.folder_)),
      notice_(std::move(other.notice_)),
      folder_fd_(std::exchange(other.folder_fd_, -1)),
      file_fd_(std::exchange(other.file_fd_, -1)) {}

FolderLock& FolderLock::operator=(FolderLock&& other) noexcept {
  std::swap(folder_, other.folder_);
  std::swap(notice_, other.notice_);
  std::swap(folder_fd_, other.folder_fd_);
  std::swap(file_fd_, other.file_fd_);
  return *this;
}

FolderLock::~FolderLock() {
  for (const int fd : {file_fd_, folder_fd_}) {
    if (fd >= 0) close(fd);
  }
}

}  // namespace attnprune
