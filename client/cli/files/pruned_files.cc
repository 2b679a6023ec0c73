#include "client/cli/files/pruned_files.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/files/model_folder.h"
#include "client/cli/files/text_file.h"
#include "client/cli/shell/temporary_folder.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/checkpoint.h"
#include "core/io/mapped_file.h"
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

using Stopped = absl::FunctionRef<bool()>;

absl::Status CheckGoesOn(Stopped stopped) {
  return stopped() ? absl::CancelledError("interrupted") : absl::OkStatus();
}

// Shards are mapped while they are written: to write over one would damage both.
absl::Status CheckIsAnother(const std::string& source, const std::string& output) {
  std::error_code error;
  if (!fs::equivalent(source, output, error) || error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(output, ": output must be another file than the input"));
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

std::string InFolder(const std::string& folder, const fs::path& file) {
  return (fs::path(folder) / file).string();
}

std::string NameOfFile(const std::string& path) { return fs::path(path).filename().string(); }

absl::Status Copy(const std::string& file, const std::string& to) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile from, MappedFile::Open(file));
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(to));
  return WriteFileAtomically(to, {from.bytes()});
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

// A file to write: `from` with the tensors that were pruned in their places.
struct Planned {
  std::string from, to;                     // to: below the output's folder
  std::vector<const PrunedTensor*> pruned;  // none: a copy
};

// What all files of one call share.
struct WriteContext {
  const std::string &method, &output;
  Stopped stopped;
};

absl::Status WriteOne(const Planned& file, const std::string& method, const std::string& to) {
  return file.pruned.empty() ? Copy(file.from, to) : WriteShard(file.from, file.pruned, method, to);
}

absl::Status PutInPlace(const std::string& file, const std::string& to) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(to));
  std::error_code error;
  fs::rename(file, to, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(to, ": cannot be put in place: ", error.message()));
}

// All of them or none, as far as the file system goes.
absl::Status WriteTogether(const std::vector<Planned>& files, const WriteContext& context) {
  const auto& [method, output, stopped] = context;
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(InFolder(output, "file")));
  const OwnTemporaryFolder staging(output, ".attnprune");
  if (staging.path().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(output, ": cannot make a folder in it: ", std::strerror(errno)));
  }
  for (const Planned& file : files) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckGoesOn(stopped));
    ATTNPRUNE_RETURN_IF_ERROR(CheckIsAnother(file.from, InFolder(output, file.to)));
    ATTNPRUNE_RETURN_IF_ERROR(WriteOne(file, method, InFolder(staging.path(), file.to)));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckGoesOn(stopped));
  for (const Planned& file : files) {
    ATTNPRUNE_RETURN_IF_ERROR(
        PutInPlace(InFolder(staging.path(), file.to), InFolder(output, file.to)));
  }
  return absl::OkStatus();
}

// Every shard, and what lies beside them.
absl::StatusOr<WrittenFiles> WriteModel(const std::string& source,
                                        const std::vector<std::string>& shards,
                                        const ByShard& pruned, const WriteContext& context) {
  const std::string& output = context.output;
  std::vector<Planned> files;
  for (const std::string& shard : shards) {
    const auto found = pruned.find(shard);
    files.push_back(
        {shard, NameOfFile(shard), found == pruned.end() ? Planned().pruned : found->second});
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const FolderContents beside, ListModelFolder(source, shards, output));
  for (const std::string& file : beside.companions) {
    files.push_back({InFolder(source, file), file, {}});
  }
  ATTNPRUNE_RETURN_IF_ERROR(WriteTogether(files, context));
  WrittenFiles written{.files = {output}, .notes = {}};
  if (!beside.left_out.empty()) {
    written.notes.push_back(absl::StrCat(
        "not copied to ", output, ", as other weights: ", absl::StrJoin(beside.left_out, ", ")));
  }
  return written;
}

absl::StatusOr<WrittenFiles> WriteAlone(const std::vector<PrunedTensor>& tensors,
                                        const WriteContext& context) {
  std::vector<TensorInfo> infos;
  for (const PrunedTensor& tensor : tensors) infos.push_back(InfoOf(tensor));
  ATTNPRUNE_RETURN_IF_ERROR(Write(context.output, infos, context.method));
  return WrittenFiles{.files = {context.output}, .notes = {}};
}

}  // namespace

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
  const WriteContext context{method, output, stopped};
  ATTNPRUNE_RETURN_IF_ERROR(CheckGoesOn(stopped));
  if (source.empty()) return WriteAlone(tensors, context);
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(source));
  ATTNPRUNE_ASSIGN_OR_RETURN(const ByShard shards, SortByShard(tensors, checkpoint));
  const bool named_as_file = absl::EndsWith(output, kSafetensors) && !fs::is_directory(output);
  if (fs::is_directory(source) && !named_as_file) {
    return WriteModel(source, checkpoint.shards(), shards, context);
  }
  if (named_as_file && shards.size() > 1) {
    ATTNPRUNE_ASSIGN_OR_RETURN(WrittenFiles written, WriteAlone(tensors, context));
    written.notes.push_back(absl::StrCat(output, " has the pruned tensors only, as they come from ",
                                         shards.size(), " files of ", source));
    return written;
  }
  std::vector<Planned> files;
  for (const auto& [shard, pruned] : shards) files.push_back({shard, NameOfFile(shard), pruned});
  if (files.size() == 1 && !absl::EndsWith(output, "/") && !fs::is_directory(output)) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckIsAnother(files[0].from, output));
    ATTNPRUNE_RETURN_IF_ERROR(WriteOne(files[0], method, output));
    return WrittenFiles{.files = {output}, .notes = {}};
  }
  ATTNPRUNE_RETURN_IF_ERROR(WriteTogether(files, context));
  WrittenFiles written;
  for (const Planned& file : files) written.files.push_back(InFolder(output, file.to));
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
