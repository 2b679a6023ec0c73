// The subcommands: each adds itself to the app and, when it was chosen, puts what it does into
// *action. One file each, of that name.
#ifndef ATTNPRUNE_CLIENT_CLI_COMMANDS_COMMANDS_H_
#define ATTNPRUNE_CLIENT_CLI_COMMANDS_COMMANDS_H_

#include <functional>

#include "client/cli/output/shell.h"

namespace CLI {
class App;
}

namespace attnprune::cli {

using Action = std::function<int(const Shell& shell)>;  // returns an exit code

void AddRunCommand(CLI::App& app, Action* action);
void AddSubmitCommand(CLI::App& app, Action* action);
void AddWatchCommand(CLI::App& app, Action* action);
void AddGetCommand(CLI::App& app, Action* action);
void AddListCommand(CLI::App& app, Action* action);
void AddCancelCommand(CLI::App& app, Action* action);
void AddDeleteCommand(CLI::App& app, Action* action);
void AddFetchCommand(CLI::App& app, Action* action);
void AddExportCommand(CLI::App& app, Action* action);
void AddMergeCommand(CLI::App& app, Action* action);
void AddInfoCommand(CLI::App& app, Action* action);
void AddSynthCommand(CLI::App& app, Action* action);
void AddReproduceCommand(CLI::App& app, Action* action);
void AddHealthCommand(CLI::App& app, Action* action);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_COMMANDS_COMMANDS_H_
