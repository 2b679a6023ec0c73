// attnprune unpack: the dense folder of a model that was written with --format bitmask.
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/bitmask_format.h"
#include "client/cli/files/save_run.h"

namespace attnprune::cli {
namespace {

struct UnpackFlags {
  std::string folder, output;
  bool overwrite = false;
};

// By Ctrl-C, by the disk, or by files that are not as they must be.
int UnpackError(const Shell& shell, const absl::Status& status) {
  if (absl::IsCancelled(status)) return Interrupted(shell);
  const bool usage = absl::IsInvalidArgument(status) || absl::IsNotFound(status);
  return usage ? UsageError(shell, status) : LocalError(shell, status);
}

int Run(const Shell& shell, const UnpackFlags& flags) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError,
                          CheckOutputFolder(flags.output, flags.folder, flags.overwrite));
  ATTNPRUNE_ASSIGN_OR_EXIT(UnpackError, const WrittenFiles written,
                           UnpackModel(flags.folder, flags.output,
                                       [&shell] { return shell.interrupt.stop_requested(); }));
  for (const std::string& file : written.files) *shell.out << "dense model: " << file << "\n";
  for (const std::string& note : written.notes) Note(shell, absl::StrCat("note: ", note));
  return kDone;
}

}  // namespace

void AddUnpackCommand(Command& program) {
  Command command = program.AddCommand(
      "unpack", "Write the dense folder of a model that has --format bitmask, bit for bit");
  UnpackFlags& flags = command.Runs<UnpackFlags>(Run);
  command.Add("DIR", flags.folder, "The folder", {.required = true});
  command.Add("--output", flags.output, "Folder for the dense model",
              {.type = "DIR", .required = true});
  command.Add("--overwrite", flags.overwrite, "Write into an output folder that is not empty");
}

}  // namespace attnprune::cli
