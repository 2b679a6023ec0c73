// attnprune: the command line. Exit codes are in shell.h and in --help.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/types/optional.h"
#include "client/cli/cli.h"
#include "client/cli/shell/temporary_folder.h"
#include "core/io/stop_request.h"

namespace {

using attnprune::cli::Color;
using attnprune::cli::Shell;

constexpr int kNarrowestTerminal = 40, kUsualTerminal = 80;  // narrower ones get plain lines

absl::optional<int> ColumnsOf(int descriptor) {
  const char* const terminal = getenv("TERM");
  const bool plain = terminal == nullptr || std::string(terminal) == "dumb";
  if (plain || isatty(descriptor) == 0) return absl::nullopt;
  winsize size{};
  const bool known = ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  if (!known) return kUsualTerminal;
  return size.ws_col < kNarrowestTerminal ? absl::nullopt : absl::make_optional<int>(size.ws_col);
}

// no-color.org
bool WantsColor() {
  const char* const no = getenv("NO_COLOR");
  return no == nullptr || *no == '\0';
}

// Ctrl-C and SIGTERM request a stop; a second one leaves at once, but not the temporary
// folder of a server of its own. A third one waits for nothing.
void CatchInterrupts(std::stop_source interrupt) {
  attnprune::CatchStopRequests(/*waited_for=*/2);
  std::thread([interrupt = std::move(interrupt)]() mutable {
    attnprune::WaitForStopRequest();
    interrupt.request_stop();
    const int signal = attnprune::WaitForStopRequest();
    attnprune::cli::RemoveTemporaryFoldersAndExit(128 + signal);
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // our own lines say it in our words
  const std::stop_source interrupt;
  CatchInterrupts(interrupt);
  Shell shell{.out = &std::cout,
              .err = &std::cerr,
              .out_columns = ColumnsOf(STDOUT_FILENO),
              .err_columns = ColumnsOf(STDERR_FILENO),
              .interrupt = interrupt.get_token()};
  if (WantsColor()) {
    if (shell.out_columns.has_value()) shell.out_color = Color::kOn;
    if (shell.err_columns.has_value()) shell.err_color = Color::kOn;
  }
  const int code =
      attnprune::cli::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc), shell);
  std::cout.flush();
  if (std::cout || code != attnprune::cli::kDone) return code;
  std::cerr << "attnprune: standard output could not be written" << std::endl;
  return attnprune::cli::kFailed;
}
