// What a subcommand writes to, and how it is interrupted; tests pass string streams.
#ifndef ATTNPRUNE_CLIENT_CLI_SHELL_SHELL_H_
#define ATTNPRUNE_CLIENT_CLI_SHELL_SHELL_H_

#include <ostream>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/types/optional.h"

namespace attnprune::cli {

enum ExitCode {
  kDone = 0,
  kFailed = 1,         // the job failed or was cancelled, or its results could not be written
  kUsage = 2,          // wrong flags, or files that cannot be read or are not valid
  kUnreachable = 3,    // the server is not there, or did not answer in time
  kRefused = 4,        // the server said no
  kInterrupted = 130,  // Ctrl-C; a job on a server goes on
};

struct Shell {
  std::ostream* out;  // what was asked for
  std::ostream* err;  // errors and notes
  // Width in columns where it is a terminal.
  absl::optional<int> out_columns, err_columns;
  std::stop_token interrupt;
};

// Each writes "attnprune: ..." to err and returns the code that belongs to it.
int UsageError(const Shell& shell, const absl::Status& status);
int LocalError(const Shell& shell, const absl::Status& status);   // not of the server's making
int ServerError(const Shell& shell, const absl::Status& status);  // of a call

int Interrupted(const Shell& shell);  // by Ctrl-C

// Notes, on err.
void Note(const Shell& shell, const std::string& text);

// The code of ServerError, without the message.
ExitCode ExitCodeOf(const absl::Status& server_status);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_SHELL_SHELL_H_
