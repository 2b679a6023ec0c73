// Refuses outputs that would cost a user something, before the work is done.
#ifndef ATTNPRUNE_CLIENT_CLI_OUTPUT_CHECK_H_
#define ATTNPRUNE_CLIENT_CLI_OUTPUT_CHECK_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/job_flags.h"

namespace attnprune::cli {

// (flag, path) of a file that will be written.
using Outputs = std::vector<std::pair<std::string, std::string>>;

// INVALID_ARGUMENT, naming the flag: an output is one of the `inputs` (links and other spellings
// included) or another output, or the folder that it is to lie in cannot be made or written.
absl::Status CheckOutputs(const Outputs& outputs, const std::vector<std::string>& inputs);

// Of a job's flags: --output, --save-mask and --plot against the model's or file's shards, the
// calibration and the held-out files.
absl::Status CheckJobOutputs(const JobFlags& flags);

// The files of the weights at `source`; none if they cannot be opened, or it is empty.
std::vector<std::string> FilesOf(const std::string& source);

// What --output and --save-mask write when they come from the weights at `source` (empty: unknown).
Outputs OutputsOf(const std::string& output, const std::string& masks, const std::string& source);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_OUTPUT_CHECK_H_
