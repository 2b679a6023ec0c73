#include "client/cli/files/output_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/files/model_folder.h"
#include "client/cli/files/pruned_files.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/checkpoint.h"
#include "core/io/safetensors.h"

namespace attnprune::cli {
namespace {

namespace fs = std::filesystem;

// The same for every name of a file, there or not.
std::string Identity(const std::string& path) {
  struct stat facts;
  if (stat(path.c_str(), &facts) == 0) return absl::StrCat(facts.st_dev, ":", facts.st_ino);
  std::error_code error;
  const fs::path canonical = fs::weakly_canonical(path, error);
  return error ? path : canonical.string();
}

absl::Status Refuse(const Output& output, const std::string& rule) {
  return absl::InvalidArgumentError(absl::StrCat(
      output.flag, " must ", rule, ", got ", output.given,
      output.path == output.given ? "" : absl::StrCat(", which will hold ", output.path)));
}

// By making a folder in it, which goes again: root may write in /proc and can make nothing there.
bool CanMakeIn(const fs::path& folder) {
  std::string name = (folder / ".attnprune-XXXXXX").string();
  return mkdtemp(name.data()) != nullptr && rmdir(name.c_str()) == 0;
}

// The folder itself or, if it has to be made, the nearest one above that is there.
absl::Status CheckFolder(const Output& output) {
  fs::path folder = fs::absolute(output.path).parent_path();
  std::error_code error;
  while (!fs::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  if (fs::is_directory(folder, error) && CanMakeIn(folder)) return absl::OkStatus();
  return Refuse(output, "lie in a folder that can be written");
}

// Files of a folder are put in place under their own names; others are written where links lead.
absl::Status CheckFile(const Output& output) {
  if (output.path != output.given) return absl::OkStatus();
  const absl::StatusOr<std::string> file = FileToReplace(output.path);
  if (file.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(output.flag, ": ", file.status().message()));
}

// Checkpoint::Open takes model.safetensors before an index: neither may stay of another model.
absl::Status CheckNoOtherModel(const Output& output, const std::map<std::string, Output>& written) {
  if (!output.of_model) return absl::OkStatus();
  for (const char* entrance : {"model.safetensors", "model.safetensors.index.json"}) {
    const std::string stale = (fs::path(output.given) / entrance).string();
    std::error_code error;
    if (!fs::exists(stale, error) || written.count(Identity(stale)) > 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(output.flag,
                                                   " must be a folder without another model, got ",
                                                   output.given, ", where ", stale, " would stay"));
  }
  return absl::OkStatus();
}

std::vector<std::string> ShardsOf(const std::string& source) {
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(source);
  return checkpoint.ok() ? checkpoint->shards() : std::vector<std::string>();
}

// Whose result a file has; empty: nobody's.
std::string MethodOfFile(const std::string& path) {
  if (!absl::EndsWith(path, ".safetensors")) return "";
  const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
  if (!file.ok()) return "";
  const auto method = file->metadata().find(kMethodKey);
  return method == file->metadata().end() ? "" : method->second;
}

// As WritePruned decides, where a name that is no .safetensors file's has one shard behind it.
bool IsOneFile(const std::string& output, const std::string& source) {
  std::error_code error;
  if (source.empty()) return true;
  if (fs::is_directory(output, error) || absl::EndsWith(output, "/")) return false;
  return absl::EndsWith(output, ".safetensors") || !fs::is_directory(source, error);
}

}  // namespace

absl::Status CheckKeepsOtherMethods(const Outputs& outputs,
                                    const std::vector<std::string>& methods) {
  for (const Output& output : outputs) {
    const std::string method = MethodOfFile(output.path);
    if (method.empty() || std::find(methods.begin(), methods.end(), method) != methods.end()) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(output.flag, ": ", output.path,
                                                   " is there and has the result of ", method,
                                                   "; --overwrite replaces it"));
  }
  return absl::OkStatus();
}

absl::Status CheckShardsAreThere(const std::string& output, const std::string& source) {
  std::error_code error;
  if (output.empty() || IsOneFile(output, source) || !fs::is_directory(source, error)) {
    return absl::OkStatus();
  }
  for (const std::string& shard : ShardsOf(source)) {
    if (fs::exists(shard, error)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--output must be a file, FILE.safetensors, where the model lacks ", shard,
                     ", got ", output));
  }
  return absl::OkStatus();
}

std::vector<std::string> FilesOf(const std::string& source) {
  if (source.empty()) return {};
  std::vector<std::string> files = {source};
  for (const std::string& shard : ShardsOf(source)) files.push_back(shard);
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(source, error)) {
    if (entry.is_regular_file(error)) files.push_back(entry.path().string());
  }
  const absl::StatusOr<FolderContents> contents = ListModelFolder(source, {}, "");
  if (!contents.ok()) return files;
  for (const std::string& file : contents->companions) {
    files.push_back((fs::path(source) / file).string());
  }
  return files;
}

absl::Status CheckOutputs(const Outputs& outputs, const std::vector<std::string>& inputs) {
  std::set<std::string> read;
  for (const std::string& input : inputs) read.insert(Identity(input));
  std::map<std::string, Output> written;
  for (const Output& output : outputs) {
    const std::string identity = Identity(output.path);
    if (read.count(identity) > 0)
      return Refuse(output, "not be a file that is read or one of the model's folder");
    const auto [other, first] = written.insert({identity, output});
    if (!first) return Refuse(output, absl::StrCat("not be the file of ", other->second.flag));
    ATTNPRUNE_RETURN_IF_ERROR(CheckFolder(output));
    ATTNPRUNE_RETURN_IF_ERROR(CheckFile(output));
  }
  for (const Output& output : outputs) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNoOtherModel(output, written));
  }
  return absl::OkStatus();
}

// A folder's files get the names of the source's: see WritePruned.
Outputs OutputsOf(const std::string& output, const std::string& masks, const std::string& source) {
  Outputs outputs;
  std::error_code error;
  const auto in_folder = [&](const fs::path& file, bool of_model) {
    const fs::path path = fs::path(output) / file;
    outputs.push_back({"--output", output, path.string(), of_model});
  };
  if (output.empty()) {
    // only masks
  } else if (IsOneFile(output, source)) {
    outputs.push_back({"--output", output, output});
  } else if (fs::is_directory(source, error)) {
    for (const std::string& file : ModelFiles(source, output)) in_folder(file, true);
  } else {
    for (const std::string& shard : ShardsOf(source)) in_folder(fs::path(shard).filename(), false);
  }
  if (!masks.empty()) outputs.push_back({"--save-mask", masks, masks});
  return outputs;
}

}  // namespace attnprune::cli
