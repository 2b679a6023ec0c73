// What a subcommand writes to, and how it is interrupted; tests pass string streams.
#ifndef ATTNPRUNE_CLIENT_CLI_SHELL_SHELL_H_
#define ATTNPRUNE_CLIENT_CLI_SHELL_SHELL_H_

#include <ostream>
#include <stop_token>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {

enum ExitCode {
  kDone = 0,
  kFailed = 1,         // the job failed or was cancelled, or its results could not be written
  kUsage = 2,          // wrong flags, or files that cannot be read or are not valid
  kUnreachable = 3,    // the server is not there, or did not answer in time
  kRefused = 4,        // the server said no
  kInterrupted = 130,  // Ctrl-C; a job on a server goes on
};

enum class Color { kOff, kOn };

struct Shell {
  std::ostream* out;  // what was asked for
  std::ostream* err;  // errors and notes
  // Width in columns where it is a terminal.
  absl::optional<int> out_columns, err_columns;
  std::stop_token interrupt;
  Color out_color = Color::kOff, err_color = Color::kOff;
};

// Each writes "attnprune: ..." to err and returns the code that belongs to it.
int UsageError(const Shell& shell, const absl::Status& status);
int LocalError(const Shell& shell, const absl::Status& status);   // not of the server's making
int ServerError(const Shell& shell, const absl::Status& status);  // of a call

// For functions that return an exit code and have a `shell`: where `expr`, an absl::Status or an
// absl::StatusOr, is not OK, they tell it by `error`, one of the three above, and return its code.
// ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const v1::Job job, client->GetJob(name));
#define ATTNPRUNE_EXIT_IF_ERROR(error, expr)                            \
  do {                                                                  \
    if (const absl::Status status_macro_ = (expr); !status_macro_.ok()) \
      return error(shell, status_macro_);                               \
  } while (false)
#define ATTNPRUNE_ASSIGN_OR_EXIT(error, lhs, expr) \
  ATTNPRUNE_ASSIGN_OR_EXIT_(ATTNPRUNE_CONCAT_(status_or_, __LINE__), error, lhs, expr)
#define ATTNPRUNE_ASSIGN_OR_EXIT_(tmp, error, lhs, expr) \
  auto tmp = (expr);                                     \
  if (!tmp.ok()) return error(shell, tmp.status());      \
  lhs = *std::move(tmp)

int Interrupted(const Shell& shell);  // by Ctrl-C

// Notes, on err.
void Note(const Shell& shell, const std::string& text);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_SHELL_SHELL_H_
