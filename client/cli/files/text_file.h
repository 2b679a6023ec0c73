// Text files, and the folders of any files.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_TEXT_FILE_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_TEXT_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace attnprune::cli {

// Makes the folder that `file` is to lie in, if there is none.
absl::Status MakeFolderOf(const std::string& file);

// WriteFileAtomically, in a folder that is made if there is none.
absl::Status WriteText(const std::string& path, const std::string& text);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_TEXT_FILE_H_
