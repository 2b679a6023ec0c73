#include "client/cli/cli.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/job_flags.h"
#include "core/io/strict_json.h"

namespace attnprune::cli {
namespace {

constexpr char kExitCodes[] =
    "Exit codes: 0 done; 1 the job failed or was cancelled, or a file could not be written; 2 "
    "wrong "
    "usage or input\nfiles; 3 server unreachable; 4 refused by the server; 130 interrupted (a job "
    "on a server goes on).";

void AddCommands(Command program) {
  AddPruneCommand(program);
  AddRunCommand(program);
  AddSubmitCommand(program);
  AddWatchCommand(program);
  AddGetCommand(program);
  AddListCommand(program);
  AddCancelCommand(program);
  AddDeleteCommand(program);
  AddResumeCommand(program);
  AddFetchCommand(program);
  AddExportCommand(program);
  AddUnpackCommand(program);
  AddInfoCommand(program);
  AddCaptureCommand(program);
  AddEvalCommand(program);
  AddSynthCommand(program);
  AddHealthCommand(program);
}

// What does the work of a command that is no longer there; empty: it is none of those.
std::string InPlaceOf(const std::vector<std::string>& arguments) {
  const std::string name = arguments.empty() ? "" : arguments.front();
  if (name == "merge") return absl::StrCat("there is no merge: ", kWholeModelWay);
  if (name != "reproduce") return "";
  return "there is no reproduce: python3 -m attnprune.reproduce, of the Python package, draws the "
         "figures";
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& arguments, const Shell& shell) {
  for (const std::string& argument : arguments) {
    if (IsUtf8(argument)) continue;  // as all texts of the API are
    return UsageError(shell,
                      absl::InvalidArgumentError(absl::StrCat("arguments must be UTF-8, got \"",
                                                              absl::CHexEscape(argument), "\"")));
  }
  if (const std::string instead = InPlaceOf(arguments); !instead.empty()) {
    return UsageError(shell, absl::InvalidArgumentError(instead));
  }
  return RunProgram(
      {.name = "attnprune",
       .summary = "Prunes attention weights so that the attention matrix stays what it was.",
       .version = ATTNPRUNE_VERSION,
       .footer = kExitCodes},
      AddCommands, arguments, shell);
}

}  // namespace attnprune::cli
