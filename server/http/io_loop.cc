#include "server/http/io_loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <thread>
#include <utility>

namespace attnprune::http {

namespace asio = boost::asio;

struct IoLoop::State {
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  std::jthread thread;
};

IoLoop::IoLoop() : state_(std::make_unique<State>()) {
  state_->thread = std::jthread([state = state_.get()] { state->context.run(); });
}

IoLoop::~IoLoop() { Stop(); }

void IoLoop::Post(std::function<void()> task) { asio::post(state_->context, std::move(task)); }

void IoLoop::After(absl::Duration delay, std::function<void()> task) {
  auto timer =
      std::make_shared<asio::steady_timer>(state_->context, absl::ToChronoNanoseconds(delay));
  timer->async_wait([timer, task = std::move(task)](const boost::system::error_code& error) {
    if (!error) task();
  });
}

void IoLoop::Stop() {
  state_->context.stop();
  if (state_->thread.joinable()) state_->thread.join();
}

boost::asio::io_context& IoLoop::context() { return state_->context; }

}  // namespace attnprune::http
