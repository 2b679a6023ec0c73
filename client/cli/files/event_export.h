// A job's events as files of other programs.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_EVENT_EXPORT_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_EVENT_EXPORT_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "attnprune/v1/prune_service.pb.h"
#include "client/cli/shell/shell.h"

namespace attnprune::cli {

// Each empty: not wanted.
struct ExportFlags {
  std::string tensorboard;  // a folder
  std::string csv, jsonl;   // files; "-": standard output
};

bool UsesStandardOutput(const ExportFlags& flags);

// INVALID_ARGUMENT naming the flag: nothing is wanted, a file is another flag's, the place cannot
// be written, or both files are standard output.
absl::Status CheckExportOutputs(const ExportFlags& flags);

// An error that names --tensorboard: `folder`, unless it is empty, cannot be written, or has runs
// of the job's methods that are not the job's. For a job that is yet to be created: any runs of
// methods with these labels.
absl::Status CheckTensorBoard(const std::string& folder, const v1::Job& job);
absl::Status CheckTensorBoard(const std::string& folder, const std::vector<std::string>& labels,
                              const std::string& job = "");

// Writes what the flags name, each file whole or not at all; tells the files on `told`. Returns an
// exit code, errors told.
int WriteExports(const Shell& shell, std::ostream& told, const ExportFlags& flags,
                 const v1::Job& job, const std::vector<v1::JobEvent>& events);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_EVENT_EXPORT_H_
