// Several files of one folder that become visible together.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_STAGED_FILES_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_STAGED_FILES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace attnprune::cli {

using Stopped = absl::FunctionRef<bool()>;

// CANCELLED if `stopped` says so.
absl::Status CheckGoesOn(Stopped stopped);

struct StagedFile {
  std::string from;  // read while it is written; empty: nothing is
  std::string to;    // below the folder
  std::function<absl::Status(const std::string& path)> write;
};

// The file's bytes under another path.
absl::Status CopyFile(const std::string& from, const std::string& to);
StagedFile CopyOf(const std::string& from, const std::string& to);

// FAILED_PRECONDITION if both are one file, links included. Shards are mapped while they are
// written: to write over one would damage both.
absl::Status CheckIsAnother(const std::string& source, const std::string& output);

// Writes them in a temporary folder of `folder`, then puts them in place: all of them or none, as
// far as the file system goes. CANCELLED: `stopped`, asked before each file and once more before
// they are put in place, said so.
absl::Status WriteTogether(const std::vector<StagedFile>& files, const std::string& folder,
                           Stopped stopped);

std::string InFolder(const std::string& folder, const std::string& file);  // its path
std::string NameOfFile(const std::string& path);                           // without its folder

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_STAGED_FILES_H_
