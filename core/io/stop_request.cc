#include "core/io/stop_request.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>

namespace attnprune {
namespace {

int stop_pipe[2] = {-1, -1};  // written before the handler is installed
std::atomic<int> to_be_waited_for{0};
std::atomic<bool> hung_up{false};  // a SIGHUP is in the pipe
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");
static_assert(std::atomic<bool>::is_always_lock_free, "used in a signal handler");

void OnSignal(int number) {
  if (number == SIGHUP) {
    if (hung_up.exchange(true)) return;
  } else if (to_be_waited_for.fetch_sub(1) <= 0) {
    _exit(128 + number);
  }
  const int saved_errno = errno;
  const char byte = static_cast<char>(number);
  // A few bytes at most into the pipe: they are taken.
  if (write(stop_pipe[1], &byte, 1) != 1) _exit(128 + number);
  errno = saved_errno;
}

}  // namespace

void CatchStopRequests(int waited_for) {
  to_be_waited_for = waited_for;
  if (pipe2(stop_pipe, O_CLOEXEC) != 0) abort();
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

void CatchHangups() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGHUP, &action, nullptr);
}

int WaitForStopRequest() {
  char byte = 0;
  while (read(stop_pipe[0], &byte, 1) != 1) {
  }
  if (byte == SIGHUP) hung_up = false;
  return byte;
}

}  // namespace attnprune
