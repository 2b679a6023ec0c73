// attnprune: the command line. Exit codes are in shell.h and in --help.
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/types/optional.h"
#include "client/cli/cli.h"

namespace {

using attnprune::cli::Shell;

constexpr int kNarrowestTerminal = 40, kUsualTerminal = 80;

absl::optional<int> ColumnsOf(int descriptor) {
  if (isatty(descriptor) == 0) return absl::nullopt;
  winsize size{};
  const bool known = ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? std::max<int>(size.ws_col, kNarrowestTerminal) : kUsualTerminal;
}

// Ctrl-C and SIGTERM trigger the interrupt; a second one ends the process at once. Before any other
// thread starts, so that all of them leave the signals to this one.
void WaitForSignals(std::shared_ptr<attnprune::client::Interrupt> interrupt) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, interrupt = std::move(interrupt)] {
    int signal = 0;
    sigwait(&signals, &signal);
    interrupt->Trigger();
    sigwait(&signals, &signal);
    _exit(128 + signal);
  }).detach();
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // our own lines say it in our words
  const auto interrupt = std::make_shared<attnprune::client::Interrupt>();
  WaitForSignals(interrupt);
  const Shell shell{.out = &std::cout,
                    .err = &std::cerr,
                    .out_columns = ColumnsOf(STDOUT_FILENO),
                    .err_columns = ColumnsOf(STDERR_FILENO),
                    .interrupt = interrupt};
  const int code =
      attnprune::cli::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc), shell);
  std::cout.flush();
  return code;
}
