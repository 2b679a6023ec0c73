#include "client/cli/files/pruned_files.h"

#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/files/model_folder.h"
#include "client/cli/files/text_file.h"
#include "core/base/status_macros.h"
#include "core/io/checkpoint.h"
#include "core/io/messages.h"
#include "core/io/safetensors.h"

namespace attnprune::cli {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kSafetensors = ".safetensors";

TensorInfo InfoOf(const PrunedTensor& tensor) {
  return {.name = tensor.name,
          .dtype = tensor.dtype,
          .shape = tensor.shape,
          .bytes = tensor.weights,
          .file = {}};
}

absl::Status Write(const std::string& path, const std::vector<TensorInfo>& tensors,
                   const std::string& method, SafetensorsMetadata metadata = {}) {
  metadata[kMethodKey] = method;
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(path));
  return WriteSafetensors(path, tensors, metadata);
}

// Puts `tensor` in its place among the file's; a product that the file has not is added.
absl::Status Replace(const PrunedTensor& tensor, const std::string& path,
                     std::vector<TensorInfo>& tensors) {
  for (TensorInfo& stored : tensors) {
    if (stored.name != tensor.name) continue;
    if (stored.dtype != tensor.dtype || stored.shape != tensor.shape) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, ": tensor ", Quoted(stored.name), " is no longer the one that was pruned: ",
          ToString(stored.dtype), " ", ShapeString(stored.shape), ", pruned ",
          ToString(tensor.dtype), " ", ShapeString(tensor.shape)));
    }
    stored.bytes = tensor.weights;
    return absl::OkStatus();
  }
  tensors.push_back(InfoOf(tensor));
  return absl::OkStatus();
}

absl::Status WriteShard(const std::string& shard, const std::vector<const PrunedTensor*>& pruned,
                        const std::string& method, const std::string& output) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(shard));
  std::vector<TensorInfo> tensors = file.tensors();
  for (const PrunedTensor* tensor : pruned) {
    ATTNPRUNE_RETURN_IF_ERROR(Replace(*tensor, shard, tensors));
  }
  return Write(output, tensors, method, file.metadata());
}

using ByShard = std::map<std::string, std::vector<const PrunedTensor*>>;

absl::StatusOr<ByShard> SortByShard(const std::vector<PrunedTensor>& tensors,
                                    const Checkpoint& source) {
  ByShard shards;
  for (const PrunedTensor& tensor : tensors) {
    std::string shard = source.shards().front();
    if (source.Contains(tensor.name)) {
      ATTNPRUNE_ASSIGN_OR_RETURN(shard, source.ShardOf(tensor.name));
    }
    shards[shard].push_back(&tensor);
  }
  return shards;
}

StagedFile PrunedShard(const std::string& shard, const std::vector<const PrunedTensor*>& pruned,
                       const std::string& method) {
  return {shard, NameOfFile(shard), [shard, pruned, method](const std::string& path) {
            return WriteShard(shard, pruned, method, path);
          }};
}

absl::StatusOr<WrittenFiles> WriteAlone(const std::vector<PrunedTensor>& tensors,
                                        const std::string& method, const std::string& output) {
  std::vector<TensorInfo> infos;
  for (const PrunedTensor& tensor : tensors) infos.push_back(InfoOf(tensor));
  ATTNPRUNE_RETURN_IF_ERROR(Write(output, infos, method));
  return WrittenFiles{.files = {output}, .notes = {}};
}

}  // namespace

absl::StatusOr<WrittenFiles> WriteModelFolder(const ModelFolder& model, const std::string& output,
                                              ShardPlan plan, Stopped stopped) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const FolderContents beside,
                             ListModelFolder(model.folder, model.shards, output));
  std::vector<StagedFile> files = model.more;
  std::set<std::string> names;
  for (const StagedFile& file : model.more) names.insert(file.to);
  for (const std::string& shard : model.shards) {
    ATTNPRUNE_ASSIGN_OR_RETURN(files.emplace_back(), plan(shard));
  }
  for (const std::string& file : beside.companions) {
    if (!names.contains(file)) files.push_back(CopyOf(InFolder(model.folder, file), file));
  }
  ATTNPRUNE_RETURN_IF_ERROR(WriteTogether(files, output, stopped));
  WrittenFiles written{.files = {output}, .notes = {}};
  if (!beside.left_out.empty()) {
    written.notes.push_back(absl::StrCat(
        "not copied to ", output, ", as other weights: ", absl::StrJoin(beside.left_out, ", ")));
  }
  return written;
}

std::vector<std::string> ModelFiles(const std::string& source, const std::string& output) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(source);
  if (!checkpoint.ok()) return {};
  const std::vector<std::string> shards = checkpoint->shards();
  const absl::StatusOr<FolderContents> beside = ListModelFolder(source, shards, output);
  if (!beside.ok()) return {};
  std::vector<std::string> files = beside->companions;
  for (const std::string& shard : shards) files.push_back(NameOfFile(shard));
  return files;
}

std::string NameOf(const v1::MatrixResult& matrix) {
  return matrix.weights().name().empty() ? matrix.name() : matrix.weights().name();
}

absl::StatusOr<std::string> UnpackMask(const std::string& bits, Index size) {
  const auto count = static_cast<size_t>(size);
  if (bits.size() != (count + 7) / 8) {
    return absl::DataLossError(absl::StrCat("a mask of ", size, " entries must have ",
                                            (count + 7) / 8, " bytes, got ", bits.size()));
  }
  std::string kept(count, '\0');
  for (size_t i = 0; i < count; ++i) {
    kept[i] = static_cast<char>((static_cast<unsigned char>(bits[i / 8]) >> (i % 8)) & 1);
  }
  return kept;
}

absl::StatusOr<std::vector<PrunedTensor>> DownloadPruned(client::Client& client,
                                                         const v1::MethodResult& result) {
  std::vector<PrunedTensor> tensors;
  for (const v1::MatrixResult& matrix : result.matrices()) {
    const v1::TensorRef& weights = matrix.weights();
    PrunedTensor tensor{.name = NameOf(matrix),
                        .dtype = ParseDType(v1::DType_Name(weights.dtype())).value_or(DType::kF32),
                        .shape = {weights.shape().begin(), weights.shape().end()},
                        .weights = {},
                        .kept = {}};
    ATTNPRUNE_ASSIGN_OR_RETURN(tensor.weights, client.Download(weights.sha256()));
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string bits, client.Download(matrix.mask().sha256()));
    ATTNPRUNE_ASSIGN_OR_RETURN(tensor.kept, UnpackMask(bits, matrix.size()));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

absl::StatusOr<WrittenFiles> WritePruned(const std::vector<PrunedTensor>& tensors,
                                         const std::string& method, const std::string& source,
                                         const std::string& output, Stopped stopped) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckGoesOn(stopped));
  if (source.empty()) return WriteAlone(tensors, method, output);
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(source));
  ATTNPRUNE_ASSIGN_OR_RETURN(const ByShard shards, SortByShard(tensors, checkpoint));
  const bool named_as_file = absl::EndsWith(output, kSafetensors) && !fs::is_directory(output);
  if (fs::is_directory(source) && !named_as_file) {
    return WriteModelFolder(
        {source, checkpoint.shards(), {}}, output,
        [&](const std::string& shard) -> absl::StatusOr<StagedFile> {
          const auto found = shards.find(shard);
          if (found == shards.end()) return CopyOf(shard, NameOfFile(shard));
          return PrunedShard(shard, found->second, method);
        },
        stopped);
  }
  if (named_as_file && shards.size() > 1) {
    ATTNPRUNE_ASSIGN_OR_RETURN(WrittenFiles written, WriteAlone(tensors, method, output));
    written.notes.push_back(absl::StrCat(output, " has the pruned tensors only, as they come from ",
                                         shards.size(), " files of ", source));
    return written;
  }
  std::vector<StagedFile> files;
  for (const auto& [shard, pruned] : shards) files.push_back(PrunedShard(shard, pruned, method));
  if (files.size() == 1 && !absl::EndsWith(output, "/") && !fs::is_directory(output)) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckIsAnother(files[0].from, output));
    ATTNPRUNE_RETURN_IF_ERROR(files[0].write(output));
    return WrittenFiles{.files = {output}, .notes = {}};
  }
  ATTNPRUNE_RETURN_IF_ERROR(WriteTogether(files, output, stopped));
  WrittenFiles written;
  for (const StagedFile& file : files) written.files.push_back(InFolder(output, file.to));
  return written;
}

absl::Status WriteMasks(const std::vector<PrunedTensor>& tensors, const std::string& method,
                        const std::string& output) {
  std::vector<TensorInfo> masks;
  for (const PrunedTensor& tensor : tensors) {
    masks.push_back({.name = tensor.name,
                     .dtype = DType::kBool,
                     .shape = tensor.shape,
                     .bytes = tensor.kept,
                     .file = {}});
  }
  return Write(output, masks, method);
}

}  // namespace attnprune::cli
