#include "client/cli/output_check.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/job_tensors.h"
#include "core/base/status_macros.h"
#include "core/tensor/checkpoint.h"

namespace attnprune::cli {
namespace {

namespace fs = std::filesystem;

bool AreSame(const std::string& a, const std::string& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error) && !error) return true;
  const fs::path left = fs::weakly_canonical(a, error), right = fs::weakly_canonical(b, error);
  return !error && left == right;
}

// The folder itself or, if it has to be made, the nearest one above that is there.
absl::Status CheckFolder(const std::string& flag, const std::string& path) {
  fs::path folder = fs::absolute(path).parent_path();
  std::error_code error;
  while (!fs::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  if (fs::is_directory(folder, error) && access(folder.c_str(), W_OK | X_OK) == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " must lie in a folder that can be written, got ", path));
}

absl::Status Refuse(const std::string& flag, const char* rule, const std::string& path) {
  return absl::InvalidArgumentError(absl::StrCat(flag, " must not be ", rule, ", got ", path));
}

}  // namespace

std::vector<std::string> FilesOf(const std::string& source) {
  if (source.empty()) return {};
  const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(source);
  return checkpoint.ok() ? checkpoint->shards() : std::vector<std::string>();
}

absl::Status CheckOutputs(const Outputs& outputs, const std::vector<std::string>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& [flag, path] = outputs[i];
    for (const std::string& input : inputs) {
      if (AreSame(path, input)) return Refuse(flag, "a file that is read", path);
    }
    for (size_t j = 0; j < i; ++j) {
      if (!AreSame(path, outputs[j].second)) continue;
      return Refuse(flag, absl::StrCat("the file of ", outputs[j].first).c_str(), path);
    }
    ATTNPRUNE_RETURN_IF_ERROR(CheckFolder(flag, path));
  }
  return absl::OkStatus();
}

// A folder's files get the names of the source's: see WritePruned.
Outputs OutputsOf(const std::string& output, const std::string& masks, const std::string& source) {
  Outputs outputs;
  std::error_code error;
  const bool file = absl::EndsWith(output, ".safetensors") && !fs::is_directory(output, error);
  if (file) outputs.emplace_back("--output", output);
  if (!output.empty() && !file) {
    outputs.emplace_back("--output", (fs::path(output) / "config.json").string());
    for (const std::string& shard : FilesOf(source)) {
      outputs.emplace_back("--output", (fs::path(output) / fs::path(shard).filename()).string());
    }
  }
  if (!masks.empty()) outputs.emplace_back("--save-mask", masks);
  return outputs;
}

absl::Status CheckJobOutputs(const JobFlags& flags) {
  const std::string& source = flags.model.empty() ? flags.weights : flags.model;
  std::vector<std::string> inputs = FilesOf(source);
  if (!flags.model.empty()) inputs.push_back((fs::path(flags.model) / "config.json").string());
  for (const auto* data : {&flags.calibration, &flags.held_out}) {
    for (const std::string& text : *data) inputs.push_back(SplitFileAndName(text).first);
  }
  Outputs outputs = OutputsOf(flags.output, flags.save_mask, source);
  if (!flags.plot.empty()) outputs.emplace_back("--plot", flags.plot);
  return CheckOutputs(outputs, inputs);
}

}  // namespace attnprune::cli
