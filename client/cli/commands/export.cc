// attnprune export: a job's events, those there are by now, as files of other programs.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/event_export.h"
#include "client/cli/flags/connect.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

struct ExportCommandFlags {
  ConnectFlags connect;
  std::string name;
  ExportFlags files;
};

bool GoesOn(const v1::Job& job) { return job.state() == v1::QUEUED || job.state() == v1::RUNNING; }

// What the files lack: what is to come, and what the server no longer keeps.
void NoteWhatIsMissing(const Shell& shell, const ExportCommandFlags& flags, const v1::Job& job,
                       const std::vector<v1::JobEvent>& events) {
  int64_t last = 0;
  for (const v1::JobEvent& event : events) {
    last = std::max(last, event.sequence());
    if (event.sequence() == 0) Note(shell, absl::StrCat("note: ", event.warning()));
  }
  if (!GoesOn(job)) return;
  Note(shell,
       absl::StrCat("note: ", job.name(), " is ", StateText(job.state()), ": its first ", last,
                    " events are exported. Export it again later, or follow it with\n"
                    "  attnprune watch ",
                    job.name(), " --server ", flags.connect.server, " --tensorboard DIR"));
}

int Run(const Shell& shell, const ExportCommandFlags& flags) {
  const bool to_out = UsesStandardOutput(flags.files);
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckExportOutputs(flags.files));
  if (NamesRun(flags.name)) {
    return UsageError(shell, absl::InvalidArgumentError(absl::StrCat(
                                 "NAME must be a job's: a run has no curves, got ", flags.name)));
  }
  if (to_out && flags.connect.json) {
    return UsageError(
        shell, absl::InvalidArgumentError("--json takes standard output, so no file can be -"));
  }
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  std::vector<v1::JobEvent> events;
  const auto keep = [&events](const v1::JobEvent& event) {
    events.push_back(event);
    return true;
  };
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Job job,
                           client->Replay(JobName(flags.name), keep));
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckTensorBoard(flags.files.tensorboard, job));
  std::ostream& told = flags.connect.json || to_out ? *shell.err : *shell.out;
  const int code = WriteExports(shell, told, flags.files, job, events);
  if (code != kDone) return code;
  NoteWhatIsMissing(shell, flags, job, events);
  if (flags.connect.json) *shell.out << Json(job, JsonStyle::kIndented);
  return kDone;
}

}  // namespace

void AddExportCommand(Command& program) {
  Command command = program.AddCommand(
      "export",
      "Write a job's events, those there are by now, for other programs; folders that are "
      "missing are made");
  ExportCommandFlags& flags = command.Runs<ExportCommandFlags>(Run);
  AddConnectFlags(command, flags.connect);
  command.Add("NAME", flags.name, "The job", {.required = true});
  command.Add("--tensorboard", flags.files.tensorboard,
              "Folder for TensorBoard: a run for each method; exported again, a job's runs "
              "are replaced",
              {.type = "DIR"});
  command.Add("--csv", flags.files.csv,
              "File for the progress: one row a progress event; -: standard output",
              {.type = "FILE"});
  command.Add("--jsonl", flags.files.jsonl,
              "File for all events: one JSON object a line, as `watch --json` prints them; "
              "-: standard output",
              {.type = "FILE"});
}

}  // namespace attnprune::cli
