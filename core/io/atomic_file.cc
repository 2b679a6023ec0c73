#include "core/io/atomic_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/mapping_guard.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

constexpr int kMostLinks = 40;  // one after the other, as Linux follows them

absl::Status NoRegularFile(const std::string& path, const char* what) {
  return Refuse(path, ": only a regular file can be replaced, this is ", what);
}

// Of what is there at the end of all links, if anything is.
absl::Status CheckReplaceable(const std::string& path) {
  struct stat facts;
  if (stat(path.c_str(), &facts) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoError(errno, path, "write");
  }
  if (S_ISREG(facts.st_mode)) return absl::OkStatus();
  return NoRegularFile(path, S_ISDIR(facts.st_mode) ? "a folder" : "a device or pipe");
}

bool IsInProc(const std::string& path) {
  struct statfs facts;
  return statfs(FolderOf(path).c_str(), &facts) == 0 && facts.f_type == PROC_SUPER_MAGIC;
}

// Where the link at `path` leads, one step; nothing if there is no link.
absl::StatusOr<absl::optional<std::string>> FollowLink(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t size = readlink(path.c_str(), target, sizeof(target));
  if (size < 0 && (errno == EINVAL || errno == ENOENT)) return absl::nullopt;
  if (size < 0) return ErrnoError(errno, path, "read the link");
  // /proc/self/fd/1 and its like have texts that need not be the name of what they lead to.
  if (IsInProc(path)) return NoRegularFile(path, "a file that a process has open");
  const std::string text(target, static_cast<size_t>(size));
  return text[0] == '/' ? text : absl::StrCat(FolderOf(path), "/", text);
}

// A temporary file, deleted with this object unless it was renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target) : target_(target) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (fd_ >= 0) close(fd_);
    if (created_) unlink(name_.c_str());
  }

  absl::Status Create(Readers readers) {
    const mode_t mode = readers == Readers::kOwner ? 0600 : 0666;
    static std::atomic<uint64_t> counter{0};
    do {  // a crashed process with the same id may have left its file
      name_ = absl::StrCat(target_, ".tmp-", getpid(), "-", counter++);
      fd_ = open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    } while (fd_ < 0 && errno == EEXIST);
    if (fd_ < 0) return ErrnoError(errno, target_, "create a temporary file beside it");
    created_ = true;
    return absl::OkStatus();
  }

  absl::Status Write(absl::Span<const char> bytes) {
    const int error = WriteAll(fd_, bytes);
    return error == 0 ? absl::OkStatus() : ErrnoError(error, target_, "write");
  }

  absl::Status Publish() {
    if (fsync(fd_) != 0) return ErrnoError(errno, target_, "sync");
    if (close(std::exchange(fd_, -1)) != 0) return ErrnoError(errno, target_, "close");
    if (rename(name_.c_str(), target_.c_str()) != 0) return ErrnoError(errno, target_, "rename");
    created_ = false;
    return absl::OkStatus();
  }

 private:
  const std::string target_;
  std::string name_;
  int fd_ = -1;
  bool created_ = false;
};

}  // namespace

absl::StatusOr<std::string> FileToReplace(const std::string& path) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckReplaceable(path));
  std::string file = path;
  for (int links = 0; links <= kMostLinks; ++links) {
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<std::string> next, FollowLink(file));
    if (!next.has_value()) return file;
    file = *std::move(next);
  }
  return ErrnoError(ELOOP, path, "write");
}

absl::Status WriteFileAtomically(const std::string& path,
                                 absl::Span<const absl::Span<const char>> chunks, Readers readers) {
  return WriteFileAtomically(
      path, chunks.size(),
      [&](size_t index) -> absl::StatusOr<absl::Span<const char>> { return chunks[index]; },
      readers);
}

absl::Status WriteFileAtomically(
    const std::string& path, size_t count,
    absl::FunctionRef<absl::StatusOr<absl::Span<const char>>(size_t index)> chunk,
    Readers readers) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string target, FileToReplace(path));
  TemporaryFile file(target);
  ATTNPRUNE_RETURN_IF_ERROR(file.Create(readers));
  for (size_t i = 0; i < count; ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::Span<const char> bytes, chunk(i));
    const absl::Status written = file.Write(bytes);
    ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(bytes));  // a mapped chunk's own reason comes first
    ATTNPRUNE_RETURN_IF_ERROR(written);
  }
  ATTNPRUNE_RETURN_IF_ERROR(file.Publish());
  return SyncFolder(FolderOf(target));
}

}  // namespace attnprune
