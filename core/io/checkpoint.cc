#include "core/io/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/io/strict_json.h"

namespace attnprune {
namespace {

using WeightMap = std::map<std::string, std::string>;  // tensor to shard

constexpr int kIndexDepth = 16;  // of which weight_map needs 2; the rest is others' metadata

// What to do about a folder that has PyTorch's weights; empty: it has none.
std::string OtherWeights(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!absl::EndsWith(name, ".bin") && !absl::EndsWith(name, ".pth")) continue;
    return absl::StrCat("; it has ", name, ", of PyTorch: convert it in Python: ",
                        "AutoModelForCausalLM.from_pretrained('", folder,
                        "').save_pretrained(DIR, safe_serialization=True)");
  }
  return "";
}

// The file to open for a path the user gave.
absl::StatusOr<std::string> Entrance(const std::string& path) {
  if (!IsFolder(path)) return path;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    std::error_code error;
    const std::filesystem::path file = std::filesystem::path(path) / name;
    if (std::filesystem::exists(file, error)) return file.string();
  }
  return absl::NotFoundError(absl::StrCat(
      path, ": folder holds neither model.safetensors nor model.safetensors.index.json",
      OtherWeights(path)));
}

absl::Status CheckShardName(absl::string_view name) {
  if (!name.empty() && name != "." && name != ".." && !absl::StrContains(name, '/') &&
      !absl::StrContains(name, '\0')) {
    return absl::OkStatus();
  }
  return Refuse("shard must be the plain name of a file beside the index, got ", Quoted(name));
}

absl::StatusOr<WeightMap> ParseWeightMap(absl::string_view text) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const nlohmann::json index, ParseStrictJson(text, kIndexDepth));
  if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
    return Refuse("key 'weight_map' must be there and hold an object");
  }
  WeightMap shard_of;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    const std::string place = absl::StrCat("weight_map: tensor ", Quoted(tensor));
    if (!shard.is_string()) {
      return Refuse(place, ": shard must be a string, got ", shard.type_name());
    }
    shard_of[tensor] = shard.get<std::string>();
    ATTNPRUNE_RETURN_IF_ERROR(Annotate(CheckShardName(shard_of[tensor]), place));
  }
  return shard_of;
}

absl::StatusOr<WeightMap> ReadWeightMap(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  absl::StatusOr<WeightMap> map = ParseWeightMap({file.bytes().data(), file.bytes().size()});
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(file.bytes()));
  if (!map.ok()) return Annotate(map.status(), path);
  return map;
}

}  // namespace

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string file, Entrance(path));
  Checkpoint checkpoint;
  checkpoint.label_ = file;
  const bool sharded = absl::EndsWith(file, ".json");
  ATTNPRUNE_RETURN_IF_ERROR(sharded ? checkpoint.AddShardsOf(file) : checkpoint.AddSingle(file));
  return checkpoint;
}

absl::StatusOr<Checkpoint> Checkpoint::Of(std::string label, std::vector<TensorInfo> tensors,
                                          std::vector<MappedFile> files) {
  Checkpoint checkpoint;
  checkpoint.label_ = std::move(label);
  checkpoint.loose_ = std::move(tensors);
  checkpoint.files_ = std::move(files);
  for (const TensorInfo& tensor : checkpoint.loose_) {
    if (checkpoint.tensors_.emplace(tensor.name, &tensor).second) continue;
    return Refuse(checkpoint.label_, ": tensor ", Quoted(tensor.name), ": must be there once");
  }
  return checkpoint;
}

absl::Status Checkpoint::AddSingle(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::Open(path));
  const SafetensorsFile& file = shards_.emplace(path, std::move(opened)).first->second;
  for (const TensorInfo& tensor : file.tensors()) tensors_[tensor.name] = &tensor;
  return absl::OkStatus();
}

absl::Status Checkpoint::AddShardsOf(const std::string& index) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const WeightMap shard_of, ReadWeightMap(index));
  for (const auto& [tensor, shard] : shard_of) {
    const std::string path = std::filesystem::path(index).replace_filename(shard).string();
    const std::string place =
        absl::StrCat(index, ": weight_map: tensor ", Quoted(tensor), ": shard ", Quoted(shard));
    ATTNPRUNE_RETURN_IF_ERROR(Annotate(OpenShard(path), place));
    if (const auto absent = absent_.find(path); absent != absent_.end()) {
      tensors_.emplace(tensor, Annotate(absent->second, place));
      continue;
    }
    const SafetensorsFile& file = shards_.find(path)->second;
    if (!file.Contains(tensor)) return Refuse(place, " does not hold it");
    tensors_.emplace(tensor, file.Find(tensor));
  }
  return CheckOneShardEach();
}

absl::Status Checkpoint::OpenShard(const std::string& path) {
  if (shards_.contains(path) || absent_.contains(path)) return absl::OkStatus();
  absl::StatusOr<SafetensorsFile> opened = SafetensorsFile::Open(path);
  if (absl::IsNotFound(opened.status())) {
    absent_.emplace(path, opened.status());
    return absl::OkStatus();
  }
  if (!opened.ok()) return opened.status();
  shards_.emplace(path, *std::move(opened));
  return absl::OkStatus();
}

absl::Status Checkpoint::CheckOneShardEach() const {
  for (const auto& [path, file] : shards_) {
    for (const TensorInfo& tensor : file.tensors()) {
      const auto listed = tensors_.find(tensor.name);
      if (listed == tensors_.end() || !listed->second.ok() || *listed->second == &tensor) continue;
      return Refuse(label_, ": tensor ", Quoted(tensor.name), ": must be in one shard only, is in ",
                    (*listed->second)->file, " and ", path);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<const TensorInfo*> Checkpoint::Find(absl::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return NoSuchTensor(label_, name, names());
  return found->second;
}

bool Checkpoint::Contains(absl::string_view name) const {
  return tensors_.find(name) != tensors_.end();
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

absl::StatusOr<std::string> Checkpoint::ShardOf(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(name));
  return tensor->file;
}

std::vector<std::string> Checkpoint::shards() const {
  std::vector<std::string> paths;
  for (const auto& [path, file] : shards_) paths.push_back(path);
  for (const auto& [path, reason] : absent_) paths.push_back(path);
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace attnprune
