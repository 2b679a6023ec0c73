// The command line as a function, for main and for tests.
#ifndef ATTNPRUNE_CLIENT_CLI_CLI_H_
#define ATTNPRUNE_CLIENT_CLI_CLI_H_

#include <string>
#include <vector>

#include "client/cli/shell/shell.h"

namespace attnprune::cli {

// arguments: without the program's name. Returns the exit code (shell.h).
int RunCommandLine(const std::vector<std::string>& arguments, const Shell& shell);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_CLI_H_
