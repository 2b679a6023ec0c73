// Refuses outputs that would cost a user something, before the work is done.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_OUTPUT_CHECK_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_OUTPUT_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace attnprune::cli {

// A file that will be written.
struct Output {
  std::string flag, given;  // as the user wrote it: the file, or the folder that it will lie in
  std::string path;         // the file
  bool of_model = false;    // one of a whole model's, in a folder
};
using Outputs = std::vector<Output>;

// INVALID_ARGUMENT, naming the flag: an output is one of the `inputs` (links and other spellings
// included) or another output, or the folder that it is to lie in cannot be made or written, or it
// is no file that can be replaced (FileToReplace); or a model's folder has another model in it,
// which would stay and be loaded in place of the new one.
absl::Status CheckOutputs(const Outputs& outputs, const std::vector<std::string>& inputs);

// INVALID_ARGUMENT where an output is there with the result of a method (kMethodKey) that is none
// of `methods`: it would be lost.
absl::Status CheckKeepsOtherMethods(const Outputs& outputs,
                                    const std::vector<std::string>& methods);

// INVALID_ARGUMENT where `output` is to be a whole model and `source`, a folder, lacks a shard.
absl::Status CheckShardsAreThere(const std::string& output, const std::string& source);

// What must not be written over where the weights come from `source`: all files of a folder, or the
// file and its shards. None if it is empty or cannot be opened.
std::vector<std::string> FilesOf(const std::string& source);

// What --output and --save-mask write when they come from the weights at `source` (empty: unknown).
Outputs OutputsOf(const std::string& output, const std::string& masks, const std::string& source);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_OUTPUT_CHECK_H_
