// A run's result as files: the model's folder anew, and the masks. Tensors are fetched one at a
// time, when they are written.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_PRUNED_MODEL_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_PRUNED_MODEL_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/run.pb.h"
#include "client/cli/files/pruned_files.h"
#include "client/cli/flags/prune_flags.h"

namespace attnprune::cli {

// The bytes of a tensor of the server's store.
using FetchTensor = absl::FunctionRef<absl::StatusOr<std::string>(const std::string& sha256)>;

enum class ModelFormat { kDense, kBitmask };  // bitmask_format.h
ModelFormat FormatOf(const FormatFlag& flag);

// What a folder holds beside the model.
struct FolderText {
  std::string name, text;
};

// FAILED_PRECONDITION or NOT_FOUND unless the folder `source` has the tensors that the run pruned
// the model of, all of them with the same bytes.
absl::Status CheckRunSource(const v1::Run& run, const std::string& source);

// Writes the model of the folder `source`, which has passed CheckRunSource, to the folder `output`
// with the run's tensors in their places, and `texts`. Put in place together, as WritePruned does.
// Errors are of files, or of `fetch`.
absl::StatusOr<WrittenFiles> WriteRunModel(const v1::Run& run, const std::string& source,
                                           const std::string& output, ModelFormat format,
                                           const std::vector<FolderText>& texts, FetchTensor fetch,
                                           Stopped stopped);

// A BOOL tensor for each pruned tensor, 1 where a weight was kept.
absl::Status WriteRunMasks(const v1::Run& run, const std::string& output, FetchTensor fetch);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_PRUNED_MODEL_H_
