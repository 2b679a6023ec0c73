#include "server/http/io_loop.h"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <utility>

namespace attnprune::http {

namespace asio = boost::asio;

void IoLoop::Post(std::function<void()> task) { asio::post(context_, std::move(task)); }

void IoLoop::After(absl::Duration delay, std::function<void()> task) {
  auto timer = std::make_shared<asio::steady_timer>(context_, absl::ToChronoNanoseconds(delay));
  timer->async_wait([timer, task = std::move(task)](const boost::system::error_code& error) {
    if (!error) task();
  });
}

void IoLoop::Stop() {
  context_.stop();
  if (thread_.joinable()) thread_.join();
}

}  // namespace attnprune::http
