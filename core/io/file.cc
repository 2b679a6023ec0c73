#include "core/io/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::StatusCode::kResourceExhausted;
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::StatusOr<int> OpenFd(const std::string& path, int flags, mode_t mode = 0) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return FileError(errno, path, "open");
  return fd;
}

absl::Status CheckRegular(const File& file) {
  struct stat facts;
  if (fstat(file.fd(), &facts) != 0) return FileError(errno, file.path(), "stat");
  if (S_ISREG(facts.st_mode)) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(file.path(), ": must be a regular file"));
}

}  // namespace

absl::Status FileError(int error, const std::string& path, const std::string& doing) {
  return absl::Status(CodeOf(error),
                      absl::StrCat(path, ": cannot ", doing, ": ",
                                   std::error_code(error, std::generic_category()).message()));
}

int WriteAll(int fd, absl::Span<const char> bytes, absl::optional<int64_t> offset) {
  while (!bytes.empty()) {
    const ssize_t written = offset.has_value() ? pwrite(fd, bytes.data(), bytes.size(), *offset)
                                               : write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(written));
    if (offset.has_value()) *offset += written;
  }
  return 0;
}

absl::StatusOr<File> File::OpenForReading(const std::string& path) {
  // O_NONBLOCK: a pipe put there is to be refused below, not to wait for a writer.
  const int fd = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  if (fd < 0) return FileError(errno, path, "open");
  File file(fd, path);
  ATTNPRUNE_RETURN_IF_ERROR(CheckRegular(file));
  return file;
}

absl::StatusOr<File> File::OpenForWriting(const std::string& path, Readers readers) {
  const mode_t mode = readers == Readers::kOwner ? 0600 : 0644;
  ATTNPRUNE_ASSIGN_OR_RETURN(const int fd, OpenFd(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode));
  File file(fd, path);
  ATTNPRUNE_RETURN_IF_ERROR(CheckRegular(file));
  return file;
}

absl::StatusOr<File> File::OpenForAppending(const std::string& path) {
  constexpr int kFlags = O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK;
  ATTNPRUNE_ASSIGN_OR_RETURN(const int fd, OpenFd(path, kFlags, 0600));
  File file(fd, path);
  ATTNPRUNE_RETURN_IF_ERROR(CheckRegular(file));
  return file;
}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<int64_t> File::Size() const {
  struct stat facts;
  if (fstat(fd_, &facts) != 0) return FileError(errno, path_, "stat");
  return static_cast<int64_t>(facts.st_size);
}

uint64_t File::Inode() const {
  struct stat facts;
  return fstat(fd_, &facts) == 0 ? facts.st_ino : 0;
}

absl::Status File::WriteAt(int64_t offset, absl::Span<const char> data) {
  const int error = WriteAll(fd_, data, offset);
  return error == 0 ? absl::OkStatus() : FileError(error, path_, "write");
}

absl::Status File::Append(absl::Span<const char> data) {
  const int error = WriteAll(fd_, data);
  return error == 0 ? absl::OkStatus() : FileError(error, path_, "write");
}

absl::Status File::ReadAt(int64_t offset, absl::Span<char> out) const {
  while (!out.empty()) {
    const ssize_t got = pread(fd_, out.data(), out.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(errno, path_, "read");
    if (got == 0) {
      return absl::DataLossError(
          absl::StrCat(path_, ": ends at byte ", offset, ", ", out.size(), " bytes too early"));
    }
    out.remove_prefix(static_cast<size_t>(got));
    offset += got;
  }
  return absl::OkStatus();
}

absl::Status File::Truncate(int64_t size) {
  return ftruncate(fd_, size) == 0 ? absl::OkStatus() : FileError(errno, path_, "truncate");
}

absl::Status File::Reserve(int64_t bytes) {
  if (fallocate(fd_, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0) return absl::OkStatus();
  const absl::Status status = FileError(errno, path_, "reserve space");
  return absl::IsResourceExhausted(status) ? status : absl::OkStatus();
}

absl::StatusOr<bool> File::TryLock() {
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  return FileError(errno, path_, "lock");
}

absl::Status File::Sync() {
  return fsync(fd_) == 0 ? absl::OkStatus() : FileError(errno, path_, "sync");
}

absl::Status File::SyncData() {
  return fdatasync(fd_) == 0 ? absl::OkStatus() : FileError(errno, path_, "sync");
}

absl::Status File::SetTime(absl::Time time) {
  const timespec spec = absl::ToTimespec(time);
  const timespec times[2] = {spec, spec};
  return futimens(fd_, times) == 0 ? absl::OkStatus() : FileError(errno, path_, "set the time");
}

void File::StartWriteBack(int64_t offset, int64_t bytes) const {
  sync_file_range(fd_, offset, bytes, SYNC_FILE_RANGE_WRITE);
}

absl::optional<FileFacts> LookUp(const std::string& path) {
  struct stat facts;
  if (lstat(path.c_str(), &facts) != 0 || !S_ISREG(facts.st_mode)) return absl::nullopt;
  return FileFacts{.size = facts.st_size,
                   .changed = absl::TimeFromTimespec(facts.st_mtim),
                   .inode = facts.st_ino};
}

absl::Status SetFileTime(const std::string& path, absl::Time time) {
  const timespec spec = absl::ToTimespec(time);
  const timespec times[2] = {spec, spec};
  if (utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0) return absl::OkStatus();
  return FileError(errno, path, "set the time");
}

absl::Status RenameFile(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return FileError(errno, to, "rename to it");
}

void RemoveFile(const std::string& path) { unlink(path.c_str()); }

absl::Status MakeFolder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0) return absl::OkStatus();
  const int error = errno;
  return IsFolder(path) ? absl::OkStatus() : FileError(error, path, "make the folder");
}

bool IsFolder(const std::string& path) {
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
}

absl::Status MakeWritableFolder(const std::string& path) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(path));
  return access(path.c_str(), W_OK | X_OK) == 0 ? absl::OkStatus()
                                                : FileError(errno, path, "write to the folder");
}

absl::Status CheckNoLink(const std::string& path) {
  struct stat facts;
  if (lstat(path.c_str(), &facts) != 0) return FileError(errno, path, "look at the folder");
  if (S_ISDIR(facts.st_mode)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(path, ": must be a folder, is a link"));
}

absl::Status SyncFolder(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int fd, OpenFd(path, O_RDONLY | O_DIRECTORY));
  const absl::Cleanup close_it = [fd] { close(fd); };
  return fsync(fd) == 0 ? absl::OkStatus() : FileError(errno, path, "sync");
}

absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path) {
  DIR* const folder = opendir(path.c_str());
  if (folder == nullptr) return FileError(errno, path, "open");
  const absl::Cleanup close_it = [folder] { closedir(folder); };
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(folder);
    if (entry == nullptr && errno != 0) return FileError(errno, path, "list");
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

int64_t DiskBytesOf(const std::string& folder) {
  struct statvfs facts;
  if (statvfs(folder.c_str(), &facts) != 0) return 0;
  return static_cast<int64_t>(facts.f_blocks) * static_cast<int64_t>(facts.f_frsize);
}

absl::Status CheckDiskRoom(const std::string& folder, int64_t bytes, int64_t kept,
                           absl::string_view name) {
  struct statvfs facts;
  if (statvfs(folder.c_str(), &facts) != 0) return FileError(errno, folder, "stat");
  const auto free = static_cast<int64_t>(facts.f_bavail) * static_cast<int64_t>(facts.f_frsize);
  if (bytes <= free - kept) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      name.empty() ? absl::StrCat(folder, ": the disk") : std::string(name), " is full: ", bytes,
      " bytes are to come, ", free, " are free, and ", kept, " must stay free"));
}

absl::Status ForEachPiece(const File& file, int64_t bytes,
                          absl::FunctionRef<void(absl::Span<const char>)> visit) {
  std::vector<char> buffer(static_cast<size_t>(std::min(bytes, kPieceBytes)));
  for (int64_t offset = 0; offset < bytes; offset += kPieceBytes) {
    const auto size = static_cast<size_t>(std::min(bytes - offset, kPieceBytes));
    const absl::Span<char> piece(buffer.data(), size);
    ATTNPRUNE_RETURN_IF_ERROR(file.ReadAt(offset, piece));
    visit(piece);
  }
  return absl::OkStatus();
}

}  // namespace attnprune
