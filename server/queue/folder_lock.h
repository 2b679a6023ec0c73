// At most one server on a data folder.
#ifndef ATTNPRUNE_SERVER_QUEUE_FOLDER_LOCK_H_
#define ATTNPRUNE_SERVER_QUEUE_FOLDER_LOCK_H_

#include <string>

#include "absl/status/statusor.h"

namespace attnprune {

// An exclusive flock on the folder itself, which no removal of a file in it frees, and on
// "FOLDER/lock", which tells others who has it, for as long as it lives. While one is held every
// earlier server on the folder is dead: the kernel drops the locks when the process ends, however
// it ends. Move-only. Not for folders on file systems without flock over all their clients; where
// folders cannot be locked (NFS), the file alone is.
class FolderLock {
 public:
  // Makes the folder if it is missing, for its owner alone (0700); one of this user that others may
  // look into is closed to them. FAILED_PRECONDITION: another server (its process id is in
  // the message) uses it. PERMISSION_DENIED: it cannot be written. RESOURCE_EXHAUSTED: disk full.
  static absl::StatusOr<FolderLock> Acquire(const std::string& folder);
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  ~FolderLock();

  const std::string& folder() const { return folder_; }
  // What the operator is to know of the folder's mode: it was changed, or others may read what is
  // in the folder. Mostly empty.
  const std::string& notice() const { return notice_; }

 private:
  FolderLock(std::string folder, int folder_fd, int file_fd);

  std::string folder_;
  std::string notice_;
  int folder_fd_;
  int file_fd_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_FOLDER_LOCK_H_
