#include "client/cli/shell/shell.h"

#include <string>

#include "client/cli/shell/printable.h"
#include "client/library/status_details.h"

namespace attnprune::cli {
namespace {

int Complain(const Shell& shell, const std::string& text, ExitCode code) {
  *shell.err << "attnprune: " << Printable(text, Lines::kSeveral) << std::endl;
  return code;
}

ExitCode CodeOf(const absl::Status& server_status) {
  switch (server_status.code()) {
    case absl::StatusCode::kOk:
      return kDone;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnreachable;
    case absl::StatusCode::kCancelled:
      return kInterrupted;
    default:
      return kRefused;
  }
}

}  // namespace

int UsageError(const Shell& shell, const absl::Status& status) {
  return Complain(shell, std::string(status.message()), kUsage);
}

int LocalError(const Shell& shell, const absl::Status& status) {
  return Complain(shell, std::string(status.message()), kFailed);
}

int ServerError(const Shell& shell, const absl::Status& status) {
  const ExitCode code = CodeOf(status);
  if (code == kInterrupted) return Interrupted(shell);
  const char* cause = code == kUnreachable ? "cannot reach the server: " : "the server refused: ";
  const char* hint = absl::IsUnauthenticated(status)
                         ? "\n  --token-file FILE or ATTNPRUNE_TOKEN_FILE gives it the token"
                         : "";
  return Complain(shell, cause + Printable(client::Explain(status)) + hint, code);
}

int Interrupted(const Shell& shell) { return Complain(shell, "interrupted", kInterrupted); }

void Note(const Shell& shell, const std::string& text) {
  *shell.err << Printable(text, Lines::kSeveral) << std::endl;
}

}  // namespace attnprune::cli
