#include "client/cli/files/save_run.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/files/output_check.h"
#include "client/cli/files/run_report.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/views/format.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

absl::Status RefusedFolder(const std::string& rule, const std::string& output) {
  return absl::InvalidArgumentError(absl::StrCat("--output must ", rule, ", got ", output));
}

// By Ctrl-C, by a server that is gone, or by the disk.
int SaveError(const Shell& shell, const absl::Status& status) {
  if (absl::IsCancelled(status)) return Interrupted(shell);
  return absl::IsUnavailable(status) ? ServerError(shell, status) : LocalError(shell, status);
}

std::vector<FolderText> ReportsOf(const v1::Run& run, const std::string& version) {
  return {{kReportJson, RunReportJson(run, version)},
          {kReportMarkdown, RunReportMarkdown(run, version)}};
}

}  // namespace

absl::Status CheckOutputFolder(const std::string& output, const std::string& source,
                               bool overwrite) {
  std::error_code error;
  if (absl::EndsWith(output, ".safetensors")) return RefusedFolder("be a folder", output);
  if (!std::filesystem::exists(output, error)) return absl::OkStatus();
  if (!std::filesystem::is_directory(output, error)) return RefusedFolder("be a folder", output);
  if (std::filesystem::equivalent(output, source, error)) {
    return RefusedFolder(absl::StrCat("be another folder than ", source), output);
  }
  if (overwrite || std::filesystem::is_empty(output, error)) return absl::OkStatus();
  return RefusedFolder("be a folder that is new or empty, unless --overwrite is given", output);
}

absl::Status CheckRunPlaces(const std::vector<RunPlaces>& places,
                            const std::vector<std::string>& inputs) {
  Outputs outputs;
  std::vector<std::string> read = inputs;
  for (const RunPlaces& place : places) {
    if (!place.output.empty()) {
      ATTNPRUNE_RETURN_IF_ERROR(CheckOutputFolder(place.output, place.model, place.overwrite));
      ATTNPRUNE_RETURN_IF_ERROR(CheckShardsAreThere(place.output, place.model));
    }
    for (const Output& output : OutputsOf(place.output, place.masks, place.model)) {
      outputs.push_back(output);
    }
    for (const std::string& file : FilesOf(place.model)) read.push_back(file);
  }
  return CheckOutputs(outputs, read);
}

absl::StatusOr<std::string> LabelledModel(const v1::Run& run) {
  const auto label = run.labels().find(kWeightsLabel);
  std::error_code error;
  if (label != run.labels().end() && std::filesystem::is_directory(label->second, error)) {
    return label->second;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--model DIR is required: ", run.name(),
      label == run.labels().end() ? " does not say where its model is"
                                  : absl::StrCat("'s model is no longer in ", label->second)));
}

int SaveRun(const Shell& shell, std::ostream& told, client::Client& client, const v1::Run& run,
            const RunPlaces& places) {
  const auto stopped = [&shell] { return shell.interrupt.stop_requested(); };
  const auto fetch = [&client](const std::string& sha256) { return client.Download(sha256); };
  if (!places.output.empty()) {
    ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckRunSource(run, places.model));
    ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::ServerInfo server, client.GetServerInfo());
    ATTNPRUNE_ASSIGN_OR_EXIT(SaveError, const WrittenFiles written,
                             WriteRunModel(run, places.model, places.output, places.format,
                                           ReportsOf(run, server.version()), fetch, stopped));
    for (const std::string& file : written.files) told << "pruned model: " << file << "\n";
    for (const std::string& note : written.notes) Note(shell, absl::StrCat("note: ", note));
  }
  if (!places.masks.empty()) {
    ATTNPRUNE_EXIT_IF_ERROR(SaveError, WriteRunMasks(run, places.masks, fetch));
    told << "masks: " << places.masks << "\n";
  }
  told << std::flush;
  return kDone;
}

}  // namespace attnprune::cli
