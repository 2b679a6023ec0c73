#include "client/cli/files/pruned_model.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/files/bitmask_format.h"
#include "client/cli/files/text_file.h"
#include "core/base/status_macros.h"
#include "core/io/checkpoint.h"
#include "core/io/messages.h"
#include "core/io/safetensors.h"
#include "core/io/sha256.h"

namespace attnprune::cli {
namespace {

using TensorsByName = std::map<std::string, v1::PrunedTensor>;

// With the weights that trainings made of them, the last one's where there are several.
TensorsByName PrunedTensorsOf(const v1::Run& run) {
  TensorsByName tensors;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) tensors[tensor.name()] = tensor;
  }
  for (const v1::RunResult& result : run.results()) {
    for (const v1::Trained* const trained : {&result.reconstructed(), &result.distilled()}) {
      for (const v1::TensorRef& weights : trained->weights()) {
        *tensors[weights.name()].mutable_weights() = weights;
      }
    }
  }
  return tensors;
}

absl::StatusOr<BitMask> FetchMask(const v1::PrunedTensor& tensor, FetchTensor fetch) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string bits, fetch(tensor.mask().sha256()));
  return BitMask::FromBytes(1, tensor.size(),
                            {reinterpret_cast<const uint8_t*>(bits.data()), bits.size()});
}

// A tensor of a file, and how its bytes are got; not at all: they are at hand.
struct FileTensor {
  TensorInfo info;
  std::function<absl::StatusOr<std::string>(FetchTensor fetch)> bytes;
};
using FileTensors = std::map<std::string, FileTensor>;  // by name

FileTensor Later(TensorInfo info, size_t bytes,
                 std::function<absl::StatusOr<std::string>(FetchTensor fetch)> get) {
  info.bytes = {nullptr, bytes};
  info.file.clear();
  return {std::move(info), std::move(get)};
}

void AddDense(const TensorInfo& stored, const v1::PrunedTensor& tensor, FileTensors& out) {
  out[stored.name] = Later(stored, stored.bytes.size(), [&tensor](FetchTensor fetch) {
    return fetch(tensor.weights().sha256());
  });
}

void AddBitmask(const TensorInfo& stored, const v1::PrunedTensor& tensor, FileTensors& out) {
  const size_t element = SizeOf(stored.dtype);
  const auto size = static_cast<size_t>(tensor.size());
  const size_t bits = (size + 7) / 8, kept = size - static_cast<size_t>(tensor.pruned());
  const TensorInfo mask{.name = BitmaskName(stored.name),
                        .dtype = DType::kU8,
                        .shape = {static_cast<Index>(bits)},
                        .bytes = {},
                        .file = {}};
  out[mask.name] =
      Later(mask, bits, [&tensor](FetchTensor fetch) { return fetch(tensor.mask().sha256()); });
  const TensorInfo values{.name = ValuesName(stored.name),
                          .dtype = stored.dtype,
                          .shape = {static_cast<Index>(kept)},
                          .bytes = {},
                          .file = {}};
  out[values.name] = Later(
      values, kept * element, [&tensor, element](FetchTensor fetch) -> absl::StatusOr<std::string> {
        ATTNPRUNE_ASSIGN_OR_RETURN(const BitMask keeps, FetchMask(tensor, fetch));
        ATTNPRUNE_ASSIGN_OR_RETURN(const std::string dense, fetch(tensor.weights().sha256()));
        return KeptValues(dense, keeps, element);
      });
}

// The shapes of the tensors that a shard has in two parts, as kShapesKey has them.
std::string ShapesText(const std::vector<const TensorInfo*>& packed) {
  nlohmann::ordered_json shapes = nlohmann::ordered_json::object();
  for (const TensorInfo* tensor : packed) shapes[tensor->name] = tensor->shape;
  return shapes.dump();
}

absl::Status WriteTensors(const std::string& path, const FileTensors& tensors,
                          const SafetensorsMetadata& metadata, FetchTensor fetch) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors) infos.push_back(tensor.info);
  std::string fetched;
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(path));
  return WriteSafetensors(path, infos, metadata,
                          [&](const TensorInfo& info) -> absl::StatusOr<absl::Span<const char>> {
                            const FileTensor& tensor = tensors.at(info.name);
                            if (tensor.bytes == nullptr) return info.bytes;
                            fetched.clear();
                            absl::StatusOr<std::string> bytes = tensor.bytes(fetch);
                            if (!bytes.ok()) return Annotate(bytes.status(), info.name);
                            fetched = *std::move(bytes);
                            return absl::Span<const char>(fetched);
                          });
}

absl::Status WriteRunShard(const std::string& shard, const TensorsByName& pruned,
                           const std::string& method, ModelFormat format, FetchTensor fetch,
                           const std::string& to) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(shard));
  SafetensorsMetadata metadata = file.metadata();
  metadata[kMethodKey] = method;
  FileTensors tensors;
  std::vector<const TensorInfo*> packed;
  for (const TensorInfo& stored : file.tensors()) {
    const auto found = pruned.find(stored.name);
    if (found == pruned.end()) {
      tensors[stored.name] = {stored, nullptr};
    } else if (format == ModelFormat::kDense) {
      AddDense(stored, found->second, tensors);
    } else {
      AddBitmask(stored, found->second, tensors);
      packed.push_back(&stored);
    }
  }
  if (format == ModelFormat::kBitmask) {
    metadata[kFormatKey] = kBitmaskFormat;
    metadata[kShapesKey] = ShapesText(packed);
  }
  return WriteTensors(to, tensors, metadata, fetch);
}

bool HasAny(const SafetensorsFile& file, const TensorsByName& pruned) {
  for (const TensorInfo& tensor : file.tensors()) {
    if (pruned.contains(tensor.name)) return true;
  }
  return false;
}

StagedFile TextFile(const FolderText& file) {
  return {"", file.name,
          [text = file.text](const std::string& path) { return WriteText(path, text); }};
}

}  // namespace

ModelFormat FormatOf(const FormatFlag& flag) {
  return flag.bitmask() ? ModelFormat::kBitmask : ModelFormat::kDense;
}

absl::Status CheckRunSource(const v1::Run& run, const std::string& source) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(source));
  for (const v1::TensorRef& ref : run.model().tensors()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* const tensor, checkpoint.Find(ref.name()));
    if (Sha256Of(tensor->bytes) == ref.sha256()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        source, ": tensor ", Quoted(ref.name()), " is not the one that ", run.name(), " pruned"));
  }
  return absl::OkStatus();
}

absl::StatusOr<WrittenFiles> WriteRunModel(const v1::Run& run, const std::string& source,
                                           const std::string& output, ModelFormat format,
                                           const std::vector<FolderText>& texts, FetchTensor fetch,
                                           Stopped stopped) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(source));
  const TensorsByName pruned = PrunedTensorsOf(run);
  ModelFolder model{source, checkpoint.shards(), {}};
  for (const FolderText& text : texts) model.more.push_back(TextFile(text));
  const auto plan = [&](const std::string& shard) -> absl::StatusOr<StagedFile> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(shard));
    if (!HasAny(file, pruned)) return CopyOf(shard, NameOfFile(shard));
    return StagedFile{shard, NameOfFile(shard), [&, shard](const std::string& path) {
                        return WriteRunShard(shard, pruned, run.method().name(), format, fetch,
                                             path);
                      }};
  };
  return WriteModelFolder(model, output, plan, stopped);
}

absl::Status WriteRunMasks(const v1::Run& run, const std::string& output, FetchTensor fetch) {
  FileTensors masks;
  const TensorsByName tensors = PrunedTensorsOf(run);
  for (const auto& [name, tensor] : tensors) {
    const v1::PrunedTensor& pruned = tensor;
    const TensorInfo info{
        .name = name,
        .dtype = DType::kBool,
        .shape = {pruned.weights().shape().begin(), pruned.weights().shape().end()},
        .bytes = {},
        .file = {}};
    masks[name] =
        Later(info, static_cast<size_t>(pruned.size()),
              [&pruned](FetchTensor fetched) -> absl::StatusOr<std::string> {
                ATTNPRUNE_ASSIGN_OR_RETURN(const std::string bits, fetched(pruned.mask().sha256()));
                return UnpackMask(bits, pruned.size());
              });
  }
  return WriteTensors(output, masks, {{kMethodKey, run.method().name()}}, fetch);
}

}  // namespace attnprune::cli
