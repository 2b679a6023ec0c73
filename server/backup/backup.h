// A copy of a data folder, taken while a server uses it.
#ifndef ATTNPRUNE_SERVER_BACKUP_BACKUP_H_
#define ATTNPRUNE_SERVER_BACKUP_BACKUP_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace attnprune {

struct BackupOptions {
  std::string data_dir;        // a server's, running or not
  std::string output;          // must not exist, or be an empty folder
  bool verify = false;         // hash each tensor of the copy
  bool allow_missing = false;  // tensors and checkpoints that are lost are left out
  // Called whenever a state was chosen and nothing of it is copied yet; for tests. May be empty.
  std::function<void()> on_snapshot = nullptr;
};

struct BackupReport {
  int64_t jobs = 0;
  int64_t tensors = 0;
  int64_t tensor_bytes = 0;
  int64_t checkpoints = 0;
  int64_t copied_bytes = 0;  // of files that could not be hard links
  int64_t missing = 0;       // left out
};

// Copies one state of the jobs with all that it refers to: results, events, tensors, checkpoints of
// what is queued or running. Not: tensors of no job, unfinished uploads. Files that never change
// are hard links where the file system allows, else copies. The copy is made as OUTPUT.incomplete,
// synced, read back (the database and the checkpoints by their checksums, each tensor by its name,
// with `verify` by its digest), and only then renamed to OUTPUT: that is a whole backup or not
// there. What a failure has begun is removed; what a kill leaves must be removed before the next.
//
// NOT_FOUND: no data folder. INVALID_ARGUMENT (output): it is there, or OUTPUT.incomplete is.
// FAILED_PRECONDITION: the database is another version's; DATA_LOSS: it is damaged, or tensors or
// checkpoints that it refers to are lost (names one). RESOURCE_EXHAUSTED: the disk is full.
// UNAVAILABLE: the jobs changed faster than they could be copied.
absl::StatusOr<BackupReport> BackUp(const BackupOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BACKUP_BACKUP_H_
