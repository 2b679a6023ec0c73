#include "server/jobs/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "core/tensor/messages.h"

namespace attnprune {

absl::Status SyncFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return ErrnoError(errno, folder, "open");
  const absl::Cleanup close_it = [fd] { close(fd); };
  return fsync(fd) == 0 ? absl::OkStatus() : ErrnoError(errno, folder, "sync");
}

absl::Status MakeFolder(const std::string& parent, const std::string& name) {
  const std::string path = parent + "/" + name;
  if (mkdir(path.c_str(), 0777) == 0) return SyncFolder(parent);
  return errno == EEXIST ? absl::OkStatus() : ErrnoError(errno, path, "make the folder");
}

}  // namespace attnprune
