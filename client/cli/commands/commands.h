// The subcommands: each adds itself to the program. A file each, of that name; what is one call
// only is in calls.cc.
#ifndef ATTNPRUNE_CLIENT_CLI_COMMANDS_COMMANDS_H_
#define ATTNPRUNE_CLIENT_CLI_COMMANDS_COMMANDS_H_

#include "client/cli/flags/command_line.h"

namespace attnprune::cli {

void AddRunCommand(Command& program);
void AddSubmitCommand(Command& program);
void AddWatchCommand(Command& program);
void AddGetCommand(Command& program);
void AddListCommand(Command& program);
void AddCancelCommand(Command& program);
void AddDeleteCommand(Command& program);
void AddFetchCommand(Command& program);
void AddExportCommand(Command& program);
void AddPruneCommand(Command& program);
void AddResumeCommand(Command& program);
void AddUnpackCommand(Command& program);
void AddInfoCommand(Command& program);
void AddCaptureCommand(Command& program);
void AddEvalCommand(Command& program);
void AddSynthCommand(Command& program);
void AddHealthCommand(Command& program);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_COMMANDS_COMMANDS_H_
