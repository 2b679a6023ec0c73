// The one thread of the HTTP port. Its tasks return at once: none waits for the disk or a lock held
// for long.
#ifndef ATTNPRUNE_SERVER_HTTP_IO_LOOP_H_
#define ATTNPRUNE_SERVER_HTTP_IO_LOOP_H_

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

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
  void Post(std::function<void()> task) { boost::asio::post(context_, std::move(task)); }
  // The same after `delay` of real time.
  void After(absl::Duration delay, std::function<void()> task) {
    const auto timer =
        std::make_shared<boost::asio::steady_timer>(context_, absl::ToChronoNanoseconds(delay));
    timer->async_wait([timer, task = std::move(task)](const boost::system::error_code& error) {
      if (!error) task();
    });
  }
  // Waits for the task under way. What has not begun is destroyed on the calling thread, now or
  // with the loop.
  void Stop() {
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }

  boost::asio::io_context& context() { return context_; }

 private:
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      context_.get_executor()};
  std::jthread thread_;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_IO_LOOP_H_
