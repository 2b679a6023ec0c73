#include "client/cli/files/model_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace attnprune::cli {
namespace {

namespace fs = std::filesystem;

// Of files with weights, and of the indexes of their shards.
constexpr const char* kWeightEndings[] = {".safetensors",
                                          ".bin",
                                          ".pt",
                                          ".pth",
                                          ".ckpt",
                                          ".gguf",
                                          ".ggml",
                                          ".onnx",
                                          ".onnx_data",
                                          ".h5",
                                          ".msgpack",
                                          ".tflite",
                                          ".npz",
                                          ".bin.index.json",
                                          ".h5.index.json",
                                          ".msgpack.index.json"};

bool HasWeights(const std::string& name) {
  return absl::c_any_of(kWeightEndings, [&name](const char* ending) {
    return absl::EndsWithIgnoreCase(name, ending);
  });
}

bool IsSame(const fs::path& path, const std::string& other) {
  std::error_code error;
  return !other.empty() && fs::equivalent(path, other, error) && !error;
}

bool HoldsModel(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / "model.safetensors", error) ||
         fs::exists(folder / "model.safetensors.index.json", error);
}

}  // namespace

absl::StatusOr<FolderContents> ListModelFolder(const std::string& folder,
                                               const std::vector<std::string>& shards,
                                               const std::string& output) {
  FolderContents contents;
  const std::set<std::string> weights(shards.begin(), shards.end());
  std::error_code error;
  fs::recursive_directory_iterator entries(folder, error);
  for (; !error && entries != fs::recursive_directory_iterator(); entries.increment(error)) {
    const fs::path& path = entries->path();
    const std::string name = path.filename().string();
    const std::string below = path.lexically_relative(folder).string();
    std::error_code unknown;  // of a link that leads nowhere
    const bool is_folder = entries->is_directory(unknown);
    const bool goes_in = is_folder && !entries->is_symlink(unknown);
    if (absl::StartsWith(name, ".") || (is_folder && IsSame(path, output))) {
      if (goes_in) entries.disable_recursion_pending();
    } else if (is_folder) {
      if (goes_in && !HoldsModel(path)) continue;
      contents.left_out.push_back(absl::StrCat(below, "/"));
      if (goes_in) entries.disable_recursion_pending();
    } else if (HasWeights(name)) {
      if (!weights.contains(path.string())) contents.left_out.push_back(below);
    } else if (entries->is_regular_file(unknown)) {
      contents.companions.push_back(below);
    }
  }
  if (error) {
    return absl::UnknownError(absl::StrCat(folder, ": cannot be listed: ", error.message()));
  }
  absl::c_sort(contents.companions);
  absl::c_sort(contents.left_out);
  return contents;
}

}  // namespace attnprune::cli
