// The one thread of the HTTP port. Its tasks return at once: none waits for the disk or a lock held
// for long.
#ifndef ATTNPRUNE_SERVER_HTTP_IO_LOOP_H_
#define ATTNPRUNE_SERVER_HTTP_IO_LOOP_H_

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <thread>

#include "absl/time/time.h"

namespace attnprune::http {

// Thread-safe.
class IoLoop {
 public:
  IoLoop() : thread_([this] { context_.run(); }) {}
  ~IoLoop() { Stop(); }
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  // Runs `task` on the loop, after those posted before. Not before Post returns.
  void Post(std::function<void()> task);
  // The same after `delay` of real time.
  void After(absl::Duration delay, std::function<void()> task);
  // Waits for the task under way. What has not begun is destroyed on the calling thread, now or
  // with the loop.
  void Stop();

  boost::asio::io_context& context() { return context_; }

 private:
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      context_.get_executor()};
  std::jthread thread_;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_IO_LOOP_H_
