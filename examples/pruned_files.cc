#include "examples/pruned_files.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/tensor/dtype.h"
#include "core/tensor/safetensors.h"

namespace attnprune {
namespace {

// One pruned weight as the model names and stores it.
struct StoredWeight {
  const SourceTensor* source = nullptr;
  const PrunedMatrix* pruned = nullptr;
  std::vector<char> bytes;  // of the pruned weights
  std::vector<char> kept;   // 1 or 0, one byte an entry
};

absl::StatusOr<const SourceTensor*> SourceOf(const HfLayer& layer, const std::string& weight) {
  for (const SourceTensor& source : layer.sources) {
    if (weight == source.weight) return &source;
  }
  return absl::InternalError(absl::StrCat("the layer has no source of ", weight));
}

absl::StatusOr<StoredWeight> Store(const HfLayer& layer, const PrunedMatrix& pruned) {
  StoredWeight stored{.pruned = &pruned};
  ATTNPRUNE_ASSIGN_OR_RETURN(stored.source, SourceOf(layer, pruned.name));
  const auto size = static_cast<size_t>(pruned.weights.size());
  stored.bytes.resize(size * SizeOf(stored.source->dtype));
  ATTNPRUNE_RETURN_IF_ERROR(
      FromFloat32(pruned.weights.flat(), stored.source->dtype, absl::MakeSpan(stored.bytes)));
  stored.kept.reserve(size);
  for (Index i = 0; i < pruned.mask.size(); ++i) {
    stored.kept.push_back(pruned.mask.kept(i) ? 1 : 0);
  }
  return stored;
}

// The file `path` with the bytes of the weights in it replaced.
absl::Status WriteModelFile(const std::string& path, const std::vector<StoredWeight>& weights,
                            const std::filesystem::path& folder) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  std::vector<TensorInfo> tensors = file.tensors();
  for (TensorInfo& tensor : tensors) {
    for (const StoredWeight& weight : weights) {
      if (tensor.name == weight.source->name) tensor.bytes = weight.bytes;
    }
  }
  return WriteSafetensors(folder / std::filesystem::path(path).filename(), tensors,
                          file.metadata());
}

absl::Status WriteMasks(const std::vector<StoredWeight>& weights,
                        const std::filesystem::path& folder) {
  std::vector<TensorInfo> masks;
  for (const StoredWeight& weight : weights) {
    const BitMask& mask = weight.pruned->mask;
    masks.push_back(
        {weight.source->name, DType::kBool, {mask.rows(), mask.cols()}, weight.kept, {}});
  }
  return WriteSafetensors(folder / "masks.safetensors", masks);
}

}  // namespace

absl::Status RoundToStoredTypes(const HfLayer& layer, PruneResult* result) {
  for (PrunedMatrix& pruned : result->matrices) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const StoredWeight stored, Store(layer, pruned));
    ATTNPRUNE_RETURN_IF_ERROR(ToFloat32(stored.source->dtype, stored.bytes, pruned.weights.flat()));
  }
  return absl::OkStatus();
}

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the folder ", folder, ": ", error.message()));
  }
  return absl::OkStatus();
}

absl::Status WritePrunedFiles(const HfLayer& layer, const PruneResult& result,
                              const std::string& folder) {
  std::vector<StoredWeight> weights;
  std::set<std::string> files;
  for (const PrunedMatrix& pruned : result.matrices) {
    ATTNPRUNE_ASSIGN_OR_RETURN(StoredWeight stored, Store(layer, pruned));
    files.insert(stored.source->file);
    weights.push_back(std::move(stored));
  }
  for (const std::string& file : files) {
    ATTNPRUNE_RETURN_IF_ERROR(WriteModelFile(file, weights, folder));
  }
  return WriteMasks(weights, folder);
}

}  // namespace attnprune
