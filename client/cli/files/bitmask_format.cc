#include "client/cli/files/bitmask_format.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/files/text_file.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/io/safetensors.h"
#include "core/io/strict_json.h"

namespace attnprune::cli {
namespace {

constexpr int kIndexDepth = 8, kShapesDepth = 3;

absl::Status CheckBytes(const char* what, size_t expected, size_t got) {
  if (expected == got) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(what, " must have ", expected, " bytes, got ", got));
}

size_t KeptCount(const BitMask& mask) {
  return static_cast<size_t>(mask.size() - mask.CountPruned());
}

// A tensor in its two parts.
struct PackedTensor {
  std::string name;
  std::vector<Index> shape;
  const TensorInfo* bits = nullptr;
  const TensorInfo* values = nullptr;
};
using PackedTensors = std::map<std::string, PackedTensor>;  // by name

bool IsBitmask(const SafetensorsFile& file) {
  const auto format = file.metadata().find(kFormatKey);
  return format != file.metadata().end() && format->second == kBitmaskFormat;
}

absl::StatusOr<PackedTensors> PackedTensorsOf(const SafetensorsFile& file) {
  const auto text = file.metadata().find(kShapesKey);
  if (text == file.metadata().end()) return Refuse("metadata must have ", kShapesKey);
  ATTNPRUNE_ASSIGN_OR_RETURN(const nlohmann::json shapes,
                             ParseStrictJson(text->second, kShapesDepth));
  PackedTensors packed;
  for (const auto& [name, shape] : shapes.items()) {
    PackedTensor tensor{.name = name};
    for (const nlohmann::json& extent : shape) {
      if (!extent.is_number_unsigned()) {
        return Refuse(kShapesKey, " must hold lists of whole numbers, got ", shape.dump());
      }
      tensor.shape.push_back(extent.get<Index>());
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(tensor.bits, file.Find(BitmaskName(name)));
    ATTNPRUNE_ASSIGN_OR_RETURN(tensor.values, file.Find(ValuesName(name)));
    packed.emplace(name, std::move(tensor));
  }
  return packed;
}

absl::StatusOr<BitMask> MaskOf(const PackedTensor& tensor) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index entries, ByteSize(DType::kU8, tensor.shape));
  const absl::Span<const char> bytes = tensor.bits->bytes;
  return BitMask::FromBytes(1, entries,
                            {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

absl::StatusOr<std::string> DenseBytes(const PackedTensor& tensor) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const BitMask mask, MaskOf(tensor));
  absl::StatusOr<std::string> dense =
      DenseValues(tensor.values->bytes, mask, SizeOf(tensor.values->dtype));
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(tensor.bits->bytes));
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(tensor.values->bytes));
  return dense;
}

// The tensors of the dense file; the bytes of unpacked ones have the right size and are not read.
absl::StatusOr<std::vector<TensorInfo>> DenseInfos(const SafetensorsFile& file,
                                                   const PackedTensors& packed) {
  std::vector<TensorInfo> infos;
  std::set<std::string> parts;
  for (const auto& [name, tensor] : packed) {
    parts.insert({BitmaskName(name), ValuesName(name)});
    const DType dtype = tensor.values->dtype;
    ATTNPRUNE_ASSIGN_OR_RETURN(const Index size, ByteSize(dtype, tensor.shape));
    infos.push_back({.name = name,
                     .dtype = dtype,
                     .shape = tensor.shape,
                     .bytes = {nullptr, static_cast<size_t>(size)},
                     .file = {}});
  }
  for (const TensorInfo& tensor : file.tensors()) {
    if (!parts.contains(tensor.name)) infos.push_back(tensor);
  }
  return infos;
}

absl::Status UnpackShard(const std::string& shard, const std::string& to) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(shard));
  const absl::StatusOr<PackedTensors> packed = PackedTensorsOf(file);
  if (!packed.ok()) return Annotate(packed.status(), shard);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<TensorInfo> infos, DenseInfos(file, *packed));
  SafetensorsMetadata metadata = file.metadata();
  metadata.erase(kFormatKey);
  metadata.erase(kShapesKey);
  std::string dense;
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(to));
  return WriteSafetensors(
      to, infos, metadata, [&](const TensorInfo& info) -> absl::StatusOr<absl::Span<const char>> {
        const auto tensor = packed->find(info.name);
        if (tensor == packed->end()) return info.bytes;
        absl::StatusOr<std::string> bytes = DenseBytes(tensor->second);
        if (!bytes.ok()) {
          return Annotate(bytes.status(), absl::StrCat(shard, ": tensor ", Quoted(info.name)));
        }
        dense = *std::move(bytes);
        return absl::Span<const char>(dense);
      });
}

// Paths of the weights: one file, or those that the index lists.
absl::StatusOr<std::vector<std::string>> ShardsOfFolder(const std::string& folder) {
  const std::string single = InFolder(folder, "model.safetensors");
  if (LookUp(single).has_value()) return std::vector<std::string>{single};
  const std::string path = InFolder(folder, "model.safetensors.index.json");
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const absl::StatusOr<nlohmann::json> index =
      ParseStrictJson({file.bytes().data(), file.bytes().size()}, kIndexDepth);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(file.bytes()));
  if (!index.ok()) return Annotate(index.status(), path);
  const auto map = index->find("weight_map");
  if (map == index->end() || !map->is_object()) return Refuse(path, ": weight_map must be there");
  std::set<std::string> shards;
  for (const nlohmann::json& shard : *map) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (name.empty() || name != NameOfFile(name)) {
      return Refuse(path, ": weight_map must name files beside it, got ", shard.dump());
    }
    shards.insert(InFolder(folder, name));
  }
  return std::vector<std::string>(shards.begin(), shards.end());
}

}  // namespace

std::string BitmaskName(const std::string& tensor) { return absl::StrCat(tensor, ".bitmask"); }
std::string ValuesName(const std::string& tensor) { return absl::StrCat(tensor, ".values"); }

absl::StatusOr<std::string> KeptValues(absl::Span<const char> dense, const BitMask& mask,
                                       size_t element_bytes) {
  const auto count = static_cast<size_t>(mask.size());
  ATTNPRUNE_RETURN_IF_ERROR(CheckBytes("the tensor", count * element_bytes, dense.size()));
  std::string kept(KeptCount(mask) * element_bytes, '\0');
  char* out = kept.data();
  for (size_t i = 0; i < count; ++i) {
    const char* const element = dense.data() + i * element_bytes;
    if (mask.kept(static_cast<Index>(i))) {
      out = std::copy_n(element, element_bytes, out);
    } else if (std::any_of(element, element + element_bytes, [](char byte) { return byte != 0; })) {
      return absl::DataLossError(absl::StrCat("entry ", i, " must be 0, as it is pruned"));
    }
  }
  return kept;
}

absl::StatusOr<std::string> DenseValues(absl::Span<const char> kept, const BitMask& mask,
                                        size_t element_bytes) {
  const auto count = static_cast<size_t>(mask.size());
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckBytes("its kept values", KeptCount(mask) * element_bytes, kept.size()));
  std::string dense(count * element_bytes, '\0');
  const char* in = kept.data();
  for (size_t i = 0; i < count; ++i) {
    if (!mask.kept(static_cast<Index>(i))) continue;
    std::memcpy(dense.data() + i * element_bytes, in, element_bytes);
    in += element_bytes;
  }
  return dense;
}

absl::StatusOr<WrittenFiles> UnpackModel(const std::string& source, const std::string& output,
                                         Stopped stopped) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> shards, ShardsOfFolder(source));
  std::set<std::string> packed;
  for (const std::string& shard : shards) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(shard));
    if (IsBitmask(file)) packed.insert(shard);
  }
  if (packed.empty()) {
    return Refuse(source, ": no shard is in the format of --format bitmask (metadata ", kFormatKey,
                  ")");
  }
  const auto plan = [&packed](const std::string& shard) -> absl::StatusOr<StagedFile> {
    if (!packed.contains(shard)) return CopyOf(shard, NameOfFile(shard));
    return StagedFile{shard, NameOfFile(shard),
                      [shard](const std::string& path) { return UnpackShard(shard, path); }};
  };
  return WriteModelFolder({source, shards, {}}, output, plan, stopped);
}

}  // namespace attnprune::cli
