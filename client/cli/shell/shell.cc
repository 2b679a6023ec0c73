#include "client/cli/shell/shell.h"

#include <string>

#include "client/cli/shell/printable.h"
#include "client/library/status_details.h"

namespace attnprune::cli {
namespace {

int Complain(const Shell& shell, const std::string& text, ExitCode code) {
  const bool color = shell.err_color == Color::kOn;
  *shell.err << (color ? "\x1b[31mattnprune:\x1b[0m " : "attnprune: ")
             << Printable(text, Lines::kSeveral) << std::endl;
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

// What to do about it, on a line of its own.
std::string HintOf(const absl::Status& server_status) {
  if (absl::IsUnauthenticated(server_status)) {
    return "\n  --token-file FILE or ATTNPRUNE_TOKEN_FILE gives it the token";
  }
  if (CodeOf(server_status) != kUnreachable || client::IsForGood(server_status)) return "";
  return "\n  attnprune-server --data-dir DIR starts one on this machine; --server HOST:PORT or "
         "ATTNPRUNE_SERVER names another";
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
  return Complain(shell, cause + Printable(client::Explain(status)) + HintOf(status), code);
}

int Interrupted(const Shell& shell) { return Complain(shell, "interrupted", kInterrupted); }

void Note(const Shell& shell, const std::string& text) {
  *shell.err << Printable(text, Lines::kSeveral) << std::endl;
}

}  // namespace attnprune::cli
