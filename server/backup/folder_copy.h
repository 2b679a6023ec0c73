// Files of one folder put into another, as hard links where they can be.
#ifndef ATTNPRUNE_SERVER_BACKUP_FOLDER_COPY_H_
#define ATTNPRUNE_SERVER_BACKUP_FOLDER_COPY_H_

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace attnprune {

// Not thread-safe.
class FolderCopy {
 public:
  // to: must be there. Paths below are relative to both, and folders in them are made as needed.
  FolderCopy(std::string from, std::string to);

  // A file that never changes. One that has been put is left as it is. NOT_FOUND: it is gone.
  absl::Status Put(const std::string& path);
  // A small file that changes: its bytes as they are now.
  absl::Status PutBytes(const std::string& path);
  void Remove(const std::string& path);

  // All that was put is on disk.
  absl::Status Sync() const;

  int64_t copied_bytes() const { return copied_bytes_; }  // of Put's files that are no links

 private:
  absl::Status MakeFolders(const std::string& path);
  absl::StatusOr<int64_t> Copy(const std::string& path);  // its bytes

  const std::string from_, to_;
  std::set<std::string> folders_;  // made, or looked at
  std::set<std::string> files_;
  int64_t copied_bytes_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BACKUP_FOLDER_COPY_H_
