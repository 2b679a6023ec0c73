// From an ended job to the files that were asked for.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RESULTS_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RESULTS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/files/pruned_files.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"
#include "core/io/checkpoint.h"

namespace attnprune::cli {

struct SaveFlags {
  std::string method;  // its label; empty: the best
  std::string output;  // pruned weights; empty: none. With {method} in it: a file for each method
  std::string masks;   // the same for the masks
  std::string source;  // the file or folder the weights came from; empty: as the job's label says
  bool overwrite = false;  // also what CheckKeepsOtherMethods would keep
};

// Tells on `told` what was written. Returns an exit code, errors told.
int SaveResults(const Shell& shell, std::ostream& told, client::Client& client, const v1::Job& job,
                const SaveFlags& flags);

// FAILED_PRECONDITION or NOT_FOUND if the source, opened from `path`, is not where the job's
// weights came from.
absl::Status CheckSource(const v1::Job& job, const Checkpoint& source, const std::string& path);

// One call of `save` for the files whose names have no {method}, then one with flags.method set for
// each of `methods`, for those whose names have it, filled in. With flags.method given: one call
// for that. None, and kUsage told, if CheckOutputs refuses a file of any of them, or
// CheckKeepsOtherMethods, with `ours`, those whose results may be replaced. Stops at the first exit
// code that is not kDone and returns it.
int SaveByMethod(const Shell& shell, const SaveFlags& flags,
                 const std::vector<std::string>& methods, const std::vector<std::string>& ours,
                 const std::function<int(const SaveFlags&)>& save);

// The files that the flags name, of one method; tells each on `told`. Returns an exit code.
int WriteFiles(const Shell& shell, std::ostream& told, const std::vector<PrunedTensor>& tensors,
               const std::string& method, const SaveFlags& flags);

// Whether a name has {method} in it: files for each method are wanted.
bool NamesEachMethod(const SaveFlags& flags);

// `text` with {method} replaced by PathPart of the label `method`, which a server has chosen.
std::string WithMethod(const std::string& text, const std::string& method);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RESULTS_H_
