// What a model's folder has beside the weights of its checkpoint.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_MODEL_FOLDER_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_MODEL_FOLDER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace attnprune::cli {

// Paths below the folder, sorted.
struct FolderContents {
  std::vector<std::string> companions;  // config, tokenizer, code, licence, ...: they travel along
  std::vector<std::string> left_out;    // other weights, folders that hold another model, links to
                                        // folders; folders end in "/"
};

// Hidden files and folders, such as .git and .cache, are in neither list; nor are `shards`, the
// paths of the checkpoint's files, and `output`, which may lie in the folder. Links to files are
// followed, as the hub's cache consists of them.
absl::StatusOr<FolderContents> ListModelFolder(const std::string& folder,
                                               const std::vector<std::string>& shards,
                                               const std::string& output);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_MODEL_FOLDER_H_
