#include "client/cli/files/event_export.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/files/output_check.h"
#include "client/cli/files/text_file.h"
#include "client/cli/views/format.h"
#include "client/export/csv.h"
#include "client/export/tensorboard_folder.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr char kTensorBoard[] = "--tensorboard", kStandardOutput[] = "-";

// A file that a run in `folder` will have, for the check of places.
Output RunIn(const std::string& folder) {
  return {kTensorBoard, folder, (std::filesystem::path(folder) / "run" / "events").string()};
}

absl::Status Print(std::ostream& out, const std::string& text) {
  out << text << std::flush;
  return out ? absl::OkStatus() : absl::UnknownError("standard output could not be written");
}

// what: a word for the text, told with the file's name.
absl::Status WriteOrPrint(const Shell& shell, std::ostream& told, const char* what,
                          const std::string& path, const std::string& text) {
  if (path == kStandardOutput) return Print(*shell.out, text);
  ATTNPRUNE_RETURN_IF_ERROR(WriteText(path, text));
  told << what << ": " << path << "\n";
  return absl::OkStatus();
}

std::string JsonLines(const std::vector<v1::JobEvent>& events) {
  std::string text;
  for (const v1::JobEvent& event : events) text += Json(event, JsonStyle::kLine);
  return text;
}

absl::Status WriteAll(const Shell& shell, std::ostream& told, const ExportFlags& flags,
                      const v1::Job& job, const std::vector<v1::JobEvent>& events) {
  if (!flags.tensorboard.empty()) {
    const auto folder = exporting::TensorBoardFolderOf(flags.tensorboard, job.name());
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> files,
                               exporting::WriteTensorBoard(folder, events, absl::Now()));
    for (const std::string& file : files) told << "TensorBoard run: " << file << "\n";
  }
  if (!flags.csv.empty()) {
    ATTNPRUNE_RETURN_IF_ERROR(
        WriteOrPrint(shell, told, "progress", flags.csv, exporting::ProgressCsv(events)));
  }
  if (flags.jsonl.empty()) return absl::OkStatus();
  return WriteOrPrint(shell, told, "events", flags.jsonl, JsonLines(events));
}

}  // namespace

bool UsesStandardOutput(const ExportFlags& flags) {
  return flags.csv == kStandardOutput || flags.jsonl == kStandardOutput;
}

absl::Status CheckExportOutputs(const ExportFlags& flags) {
  if (flags.tensorboard.empty() && flags.csv.empty() && flags.jsonl.empty()) {
    return absl::InvalidArgumentError("one of --tensorboard, --csv and --jsonl is required");
  }
  if (flags.csv == kStandardOutput && flags.jsonl == kStandardOutput) {
    return absl::InvalidArgumentError("only one of --csv and --jsonl can be -, standard output");
  }
  Outputs outputs;
  if (!flags.tensorboard.empty()) outputs.push_back(RunIn(flags.tensorboard));
  for (const auto& [flag, path] :
       {std::pair("--csv", flags.csv), std::pair("--jsonl", flags.jsonl)}) {
    if (!path.empty() && path != kStandardOutput) outputs.push_back({flag, path, path});
  }
  return CheckOutputs(outputs, {});
}

absl::Status CheckTensorBoard(const std::string& folder, const v1::Job& job) {
  std::vector<std::string> labels;
  for (const v1::Method& method : job.methods()) labels.push_back(method.label());
  return CheckTensorBoard(folder, labels, job.name());
}

absl::Status CheckTensorBoard(const std::string& folder, const std::vector<std::string>& labels,
                              const std::string& job) {
  if (folder.empty()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(CheckOutputs({RunIn(folder)}, {}));
  return exporting::CheckRuns(exporting::TensorBoardFolderOf(folder, job), labels);
}

int WriteExports(const Shell& shell, std::ostream& told, const ExportFlags& flags,
                 const v1::Job& job, const std::vector<v1::JobEvent>& events) {
  const absl::Status written = WriteAll(shell, told, flags, job, events);
  told << std::flush;
  return written.ok() ? kDone : LocalError(shell, written);
}

}  // namespace attnprune::cli
