// What tells one data folder from another.
#ifndef ATTNPRUNE_SERVER_QUEUE_FOLDER_ID_H_
#define ATTNPRUNE_SERVER_QUEUE_FOLDER_ID_H_

#include <string>

#include "absl/status/statusor.h"
#include "server/queue/folder_lock.h"

namespace attnprune {

// What FOLDER/folder-id says, made at the first call: 16 random hex digits, the same for as long as
// the folder lives, wherever it is moved. DATA_LOSS: the file has something else.
absl::StatusOr<std::string> FolderId(const FolderLock& lock);

// Whether that was called for the folder ever.
bool HasFolderId(const std::string& folder);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_FOLDER_ID_H_
