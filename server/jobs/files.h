// Folders that a power loss does not take back.
#ifndef ATTNPRUNE_SERVER_JOBS_FILES_H_
#define ATTNPRUNE_SERVER_JOBS_FILES_H_

#include <string>

#include "absl/status/status.h"

namespace attnprune {

// Syncs what was made, renamed or removed in the folder.
absl::Status SyncFolder(const std::string& folder);

// Makes `parent`/`name` unless it is there. OK means that it is on disk.
absl::Status MakeFolder(const std::string& parent, const std::string& name);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_JOBS_FILES_H_
