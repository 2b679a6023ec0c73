// At most one server on a data folder.
#ifndef ATTNPRUNE_SERVER_QUEUE_FOLDER_LOCK_H_
#define ATTNPRUNE_SERVER_QUEUE_FOLDER_LOCK_H_

#include <string>

#include "absl/status/statusor.h"

namespace attnprune {

// An exclusive flock on "FOLDER/lock" for as long as it lives. While one is held every earlier
// server on the folder is dead: the kernel drops the lock when the process ends, however it ends.
// Move-only. Not for folders on file systems without flock over all their clients.
class FolderLock {
 public:
  // Makes the folder if it is missing. FAILED_PRECONDITION: another server (its process id is in
  // the message) uses it. PERMISSION_DENIED: it cannot be written. RESOURCE_EXHAUSTED: disk full.
  static absl::StatusOr<FolderLock> Acquire(const std::string& folder);
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&& other) noexcept;
  ~FolderLock();

  const std::string& folder() const { return folder_; }

 private:
  FolderLock(std::string folder, int fd);

  std::string folder_;
  int fd_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_FOLDER_LOCK_H_
