// A method's results as files: the input file with zeros where weights were pruned, and the masks.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_PRUNED_FILES_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_PRUNED_FILES_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/files/staged_files.h"
#include "client/library/client.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace attnprune::cli {

struct PrunedTensor {
  std::string name;  // NameOf
  DType dtype;
  std::vector<Index> shape;
  std::string weights;  // raw bytes
  std::string kept;     // 1 or 0, one byte an entry
};

// Metadata of every file written here that has pruned tensors or masks: the method's label.
inline constexpr char kMethodKey[] = "attnprune.method";

struct WrittenFiles {
  std::vector<std::string> files;
  std::vector<std::string> notes;  // what they lack
};

// Downloads the weights and masks of one method.
absl::StatusOr<std::vector<PrunedTensor>> DownloadPruned(client::Client& client,
                                                         const v1::MethodResult& result);

// One byte, 1 or 0, an entry of a BITMASK of `size` entries. DATA_LOSS: the wrong number of bytes.
absl::StatusOr<std::string> UnpackMask(const std::string& bits, Index size);

// Writes to `output` the file that the tensors came from with their bytes replaced, kMethodKey
// added and everything else as it was. source: what Checkpoint::Open takes; empty: only the tensors
// are written.
//
// `output` is a file if it ends in .safetensors and is no folder: where the tensors lie in several
// shards, of the pruned tensors only. If the source is a model's folder and `output` is not a file,
// it is a folder that gets a whole model: all shards, and beside them all that the source has but
// weights (model_folder.h). Otherwise, a folder that gets the pruned shards under their own names.
//
// FAILED_PRECONDITION: the source is not what was pruned, or is the output.
// Several files are written beside each other first, in a temporary folder of `output`, and then
// put in place together: until then an error leaves everything as it was. CANCELLED: `stopped`,
// asked before each file and once more before they are put in place, said so.
absl::StatusOr<WrittenFiles> WritePruned(const std::vector<PrunedTensor>& tensors,
                                         const std::string& method, const std::string& source,
                                         const std::string& output, Stopped stopped);

struct ModelFolder {
  std::string folder;
  std::vector<std::string> shards;  // paths of its weights
  std::vector<StagedFile> more;     // in place of its files of the same names, or beside them
};
// What becomes of one shard.
using ShardPlan = absl::FunctionRef<absl::StatusOr<StagedFile>(const std::string& shard)>;

// A model's folder anew: its shards by `plan`, and all that lies beside them but weights. Put in
// place together, as WritePruned does. Errors of the plan.
absl::StatusOr<WrittenFiles> WriteModelFolder(const ModelFolder& model, const std::string& output,
                                              ShardPlan plan, Stopped stopped);

// Paths, below the folder `output`, of the files that a whole model written by WritePruned has,
// from the folder `source`. None if it holds no model.
std::vector<std::string> ModelFiles(const std::string& source, const std::string& output);

// The tensor's name in the files: the input's; of a product that has none, "w".
std::string NameOf(const v1::MatrixResult& matrix);

// A BOOL tensor of the same name each, 1 where a weight was kept.
absl::Status WriteMasks(const std::vector<PrunedTensor>& tensors, const std::string& method,
                        const std::string& output);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_PRUNED_FILES_H_
