#include "server/observe/log_queue.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "absl/strings/string_view.h"
#include "core/base/mutex.h"

namespace attnprune {
namespace {

// False: the descriptor takes nothing any more. EAGAIN: another process that shares it has made it
// non-blocking.
bool WriteOut(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd writable{fd, POLLOUT, 0};
      poll(&writable, 1, /*timeout=*/-1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

struct LogQueue::State {
  State(int fd_, LogQueueOptions options_) : fd(fd_), options(std::move(options_)) {}

  const int fd;
  const LogQueueOptions options;
  Mutex mutex;
  CondVar changed;
  std::string waiting ABSL_GUARDED_BY(mutex);
  int64_t lines ABSL_GUARDED_BY(mutex) = 0;    // of `waiting`
  int64_t missing ABSL_GUARDED_BY(mutex) = 0;  // behind `waiting`
  int64_t dropped ABSL_GUARDED_BY(mutex) = 0;  // in all
  bool writing ABSL_GUARDED_BY(mutex) = false;
  bool closed ABSL_GUARDED_BY(mutex) = false;

  void Run();
  bool idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return waiting.empty() && missing == 0 && !writing;
  }
};

// What was dropped came after all that waits: from the first dropped line on all are, until here.
void LogQueue::State::Run() {
  while (true) {
    std::string batch;
    int64_t taken = 0, lost = 0;
    {
      const MutexLock lock(&mutex);
      changed.Wait(&mutex, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return closed || !waiting.empty() || missing > 0;
      });
      if (waiting.empty() && missing == 0) return;
      batch.swap(waiting);
      taken = std::exchange(lines, 0);
      lost = std::exchange(missing, 0);
      writing = true;
    }
    if (lost > 0) batch += options.dropped_line(lost);
    const bool written = WriteOut(fd, batch);
    {
      const MutexLock lock(&mutex);
      writing = false;
      if (!written) dropped += taken;
    }
    changed.NotifyAll();
  }
}

LogQueue::LogQueue(int fd, LogQueueOptions options)
    : state_(std::make_shared<State>(fd, std::move(options))) {
  std::thread([state = state_] { state->Run(); }).detach();
}

LogQueue::~LogQueue() {
  {
    const MutexLock lock(&state_->mutex);
    state_->closed = true;
  }
  state_->changed.NotifyAll();
}

void LogQueue::Add(std::string_view line) {
  {
    const MutexLock lock(&state_->mutex);
    const bool full = state_->waiting.size() + line.size() > state_->options.max_bytes;
    if (full || state_->missing > 0) {
      ++state_->missing;
      ++state_->dropped;
    } else {
      state_->waiting += line;
      ++state_->lines;
    }
  }
  state_->changed.NotifyAll();
}

bool LogQueue::Flush(absl::Duration timeout) {
  const MutexLock lock(&state_->mutex);
  return state_->changed.WaitFor(
      &state_->mutex, timeout, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return state_->idle(); });
}

int64_t LogQueue::dropped() const {
  const MutexLock lock(&state_->mutex);
  return state_->dropped;
}

}  // namespace attnprune
