// From an ended job to the files that were asked for.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RESULTS_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RESULTS_H_

#include <ostream>
#include <string>

#include "attnprune/v1/job.pb.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

struct SaveFlags {
  std::string method;  // its label; empty: the best
  std::string output;  // pruned weights; empty: none. With {method} in it: a file for each method
  std::string masks;   // the same for the masks
  std::string source;  // the file or folder the weights came from; empty: as the job's label says
  bool overwrite = false;  // also what CheckKeepsOtherMethods would keep
};

SaveFlags SaveFlagsOf(const JobFlags& job);

// Tells on `told` what was written. Returns an exit code, errors told.
int SaveResults(const Shell& shell, std::ostream& told, client::Client& client, const v1::Job& job,
                const SaveFlags& flags);

// `text` with {method} replaced by PathPart of the label `method`, which a server has chosen.
std::string WithMethod(const std::string& text, const std::string& method);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RESULTS_H_
