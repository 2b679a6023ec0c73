// Reading and writing the file of tokens.h.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "server/access/tokens.h"

namespace attnprune::access {
namespace {

// Owner and mode that the file had, so that the server that reads it still may.
absl::Status Restore(const std::string& path, const struct stat& facts) {
  if (chown(path.c_str(), facts.st_uid, facts.st_gid) != 0) {
    return ErrnoError(errno, path, "give it back to its owner");
  }
  if (chmod(path.c_str(), facts.st_mode & 07777) != 0) {
    return ErrnoError(errno, path, "give it its mode");
  }
  return absl::OkStatus();
}

// `folder` locked for other writers of token files, until the descriptor is closed.
absl::StatusOr<int> LockFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, folder, "open");
  if (flock(fd, LOCK_EX) == 0) return fd;
  const int error = errno;
  close(fd);
  return ErrnoError(error, folder, "lock");
}

}  // namespace

absl::StatusOr<std::string> ReadTokenFile(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, File::OpenForReading(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  if (size > static_cast<int64_t>(kMaxTokenFileBytes)) {
    return MustError("the file", absl::StrCat("have at most ", kMaxTokenFileBytes, " bytes"), size);
  }
  std::string text(static_cast<size_t>(size), '\0');
  ATTNPRUNE_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(text)));
  return text;
}

absl::Status AppendToTokenFile(const std::string& path, absl::string_view line) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string target, FileToReplace(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int lock, LockFolder(FolderOf(target)));
  const absl::Cleanup unlock = [lock] { close(lock); };
  struct stat facts;
  const bool is_new = stat(target.c_str(), &facts) != 0;
  std::string text;
  if (!is_new) {
    ATTNPRUNE_ASSIGN_OR_RETURN(text, ReadTokenFile(target));
  }
  if (!text.empty() && !absl::EndsWith(text, "\n")) text += '\n';
  absl::StrAppend(&text, line);
  ATTNPRUNE_RETURN_IF_ERROR(Annotate(TokenTable::Parse(text).status(), path));
  ATTNPRUNE_RETURN_IF_ERROR(
      WriteFileAtomically(target, {absl::MakeConstSpan(text)}, Readers::kOwner));
  return is_new ? absl::OkStatus() : Restore(target, facts);
}

}  // namespace attnprune::access
