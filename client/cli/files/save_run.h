// From an ended run to the folder and the files that were asked for.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RUN_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RUN_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/run.pb.h"
#include "client/cli/files/pruned_model.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

struct RunPlaces {
  std::string label;   // of the run among others
  std::string model;   // the folder that is pruned
  std::string output;  // folder; empty: none
  std::string masks;   // file; empty: none
  ModelFormat format = ModelFormat::kDense;
  bool overwrite = false;  // the folder may hold something
};

// INVALID_ARGUMENT, naming the flag: --output is no folder, the model's own, not empty without
// --overwrite, or cannot be made; a file would be one of the model's or of `inputs`; or two places
// write the same.
absl::Status CheckRunPlaces(const std::vector<RunPlaces>& places,
                            const std::vector<std::string>& inputs);
// The rules of a folder alone, which `source` is turned into.
absl::Status CheckOutputFolder(const std::string& output, const std::string& source,
                               bool overwrite);

// The folder that the run's label says its model is in. INVALID_ARGUMENT: it says none, or none is
// there.
absl::StatusOr<std::string> LabelledModel(const v1::Run& run);

// Writes what `places` name, with the run's report, and tells it on `told`. Returns an exit code,
// errors told: kFailed where files could not be written.
int SaveRun(const Shell& shell, std::ostream& told, client::Client& client, const v1::Run& run,
            const RunPlaces& places);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_SAVE_RUN_H_
