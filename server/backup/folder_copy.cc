#include "server/backup/folder_copy.h"

#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"

namespace attnprune {
namespace {

// Of link(2): this file system, or this user, has to copy.
bool MeansCopy(int error) {
  return error == EXDEV || error == EPERM || error == EACCES || error == EMLINK ||
         error == ENOTSUP || error == ENOSYS;
}

// A file of its own with the same bytes, on disk.
absl::Status CopyFile(const File& file, const std::string& to, int64_t size) {
  ATTNPRUNE_ASSIGN_OR_RETURN(File copy, File::OpenForWriting(to));
  ATTNPRUNE_RETURN_IF_ERROR(copy.Truncate(0));
  int64_t offset = 0;
  absl::Status status;
  ATTNPRUNE_RETURN_IF_ERROR(ForEachPiece(file, size, [&](absl::Span<const char> piece) {
    if (status.ok()) status = copy.WriteAt(offset, piece);
    offset += static_cast<int64_t>(piece.size());
  }));
  ATTNPRUNE_RETURN_IF_ERROR(status);
  return copy.Sync();
}

}  // namespace

FolderCopy::FolderCopy(std::string from, std::string to)
    : from_(std::move(from)), to_(std::move(to)), folders_({to_}) {}

absl::Status FolderCopy::MakeFolders(const std::string& path) {
  const std::string folder = FolderOf(absl::StrCat(to_, "/", path));
  if (folders_.count(folder) > 0) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolders(folder.substr(to_.size() + 1)));
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(folder));
  folders_.insert(folder);
  return absl::OkStatus();
}

absl::Status FolderCopy::Put(const std::string& path) {
  if (files_.count(path) > 0) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolders(path));
  const std::string from = absl::StrCat(from_, "/", path), to = absl::StrCat(to_, "/", path);
  if (link(from.c_str(), to.c_str()) == 0) {
    files_.insert(path);
    return absl::OkStatus();
  }
  if (errno == ENOENT) return absl::NotFoundError(absl::StrCat(from, ": no such file"));
  if (!MeansCopy(errno)) return FileError(errno, to, "make a link");
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, Copy(path));
  copied_bytes_ += size;
  return absl::OkStatus();
}

absl::Status FolderCopy::PutBytes(const std::string& path) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolders(path));
  return Copy(path).status();
}

absl::StatusOr<int64_t> FolderCopy::Copy(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, File::OpenForReading(absl::StrCat(from_, "/", path)));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  ATTNPRUNE_RETURN_IF_ERROR(CopyFile(file, absl::StrCat(to_, "/", path), size));
  files_.insert(path);
  return size;
}

void FolderCopy::Remove(const std::string& path) {
  if (files_.erase(path) > 0) RemoveFile(absl::StrCat(to_, "/", path));
}

absl::Status FolderCopy::Sync() const {
  for (const std::string& folder : folders_) ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(folder));
  return absl::OkStatus();
}

}  // namespace attnprune
