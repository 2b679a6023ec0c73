#include "core/base/stop_request.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>

namespace attnprune {
namespace {

int stop_pipe[2] = {-1, -1};  // written before the handler is installed
std::atomic<bool> requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "used in a signal handler");

void OnSignal(int number) {
  if (requested.exchange(true)) _exit(128 + number);
  const int saved_errno = errno;
  const char byte = static_cast<char>(number);
  // One byte into an empty pipe: it is taken.
  if (write(stop_pipe[1], &byte, 1) != 1) _exit(128 + number);
  errno = saved_errno;
}

}  // namespace

void CatchStopRequests() {
  if (pipe2(stop_pipe, O_CLOEXEC) != 0) abort();
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

int WaitForStopRequest() {
  char byte = 0;
  while (read(stop_pipe[0], &byte, 1) != 1) {
  }
  return byte;
}

}  // namespace attnprune
