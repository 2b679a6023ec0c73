#include "client/cli/cli.h"

#include <CLI/CLI.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "core/io/strict_json.h"

namespace attnprune::cli {
namespace {

constexpr char kExitCodes[] =
    "Exit codes: 0 done; 1 the job failed or was cancelled, or a file could not be written; 2 "
    "wrong "
    "usage or input\nfiles; 3 server unreachable; 4 refused by the server; 130 interrupted (a job "
    "on a server goes on).";

void AddCommands(CLI::App& app, Action* action) {
  AddRunCommand(app, action);
  AddSubmitCommand(app, action);
  AddWatchCommand(app, action);
  AddGetCommand(app, action);
  AddListCommand(app, action);
  AddCancelCommand(app, action);
  AddDeleteCommand(app, action);
  AddFetchCommand(app, action);
  AddExportCommand(app, action);
  AddMergeCommand(app, action);
  AddInfoCommand(app, action);
  AddSynthCommand(app, action);
  AddReproduceCommand(app, action);
  AddHealthCommand(app, action);
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& arguments, const Shell& shell) {
  for (const std::string& argument : arguments) {
    if (IsUtf8(argument)) continue;  // as all texts of the API are
    return UsageError(shell,
                      absl::InvalidArgumentError(absl::StrCat("arguments must be UTF-8, got \"",
                                                              absl::CHexEscape(argument), "\"")));
  }
  Action action;
  CLI::App app("Prunes attention weights so that the attention matrix stays what it was.",
               "attnprune");
  app.set_version_flag("--version", ATTNPRUNE_VERSION);
  app.require_subcommand(1);
  app.footer(kExitCodes);
  AddCommands(app, &action);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    return app.exit(error, *shell.out, *shell.err) == 0 ? kDone : kUsage;
  }
  return action(shell);
}

}  // namespace attnprune::cli
