// Log lines on their way to a descriptor whose reader may be slow, or gone to sleep.
#ifndef ATTNPRUNE_SERVER_OBSERVE_LOG_QUEUE_H_
#define ATTNPRUNE_SERVER_OBSERVE_LOG_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace attnprune {

struct LogQueueOptions {
  size_t max_bytes = size_t{4} << 20;  // that may wait; as many may be on their way besides
  // The line that stands where `lines` ones were dropped, with its line end.
  std::function<std::string(int64_t lines)> dropped_line;
};

// A thread of its own writes the lines, whole and in order. Thread-safe; only Flush waits for the
// reader. While there is no room the newest lines are dropped, and counted; the line that
// says so comes in their place. Lines that cannot be written count as dropped too.
class LogQueue {
 public:
  // fd stays the caller's, and open.
  LogQueue(int fd, LogQueueOptions options);
  // The thread ends when all is written, and is not waited for: it may never be.
  ~LogQueue();
  LogQueue(const LogQueue&) = delete;
  LogQueue& operator=(const LogQueue&) = delete;

  void Add(std::string_view line);
  // Waits until what was added is written, at most so long. Whether it is.
  bool Flush(absl::Duration timeout);
  int64_t dropped() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;  // the thread has it too
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_LOG_QUEUE_H_
