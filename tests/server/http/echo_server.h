// An HTTP server whose handler is the test's own.
#ifndef ATTNPRUNE_TESTS_SERVER_HTTP_ECHO_SERVER_H_
#define ATTNPRUNE_TESTS_SERVER_HTTP_ECHO_SERVER_H_

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/http/http_server.h"
#include "server/http/web_metrics.h"
#include "tests/server/http/http_client.h"

namespace attnprune::http {

// Echoes the request; "/stream" begins a stream that the test feeds; "/later" is answered when the
// test says so.
class Echo final : public Handler {
 public:
  class Feed final : public AnswerStream {
   public:
    explicit Feed(Echo* echo) : echo_(echo) { ++echo_->streams; }
    ~Feed() override {
      echo_->stream_ended_on = std::this_thread::get_id();
      --echo_->streams;
    }
    void OnReady(std::function<void()> wake) override { wake_ = std::move(wake); }
    SharedBytes Next() override {
      if (sent_ == pieces_.size()) return nullptr;
      return StreamPiece(pieces_[sent_++]);
    }
    bool ended() const override { return ending_ && sent_ == pieces_.size(); }

    void Add(const std::string& piece) {
      pieces_.push_back(piece);
      wake_();
    }
    void End() {
      ending_ = true;
      wake_();
    }

   private:
    Echo* const echo_;
    std::function<void()> wake_ = [] {};
    std::vector<std::string> pieces_;
    size_t sent_ = 0;
    bool ending_ = false;
  };

  void Handle(Request request, Respond respond) override {
    Answer answer;
    if (request.path == "/stream") {
      auto feed = std::make_unique<Feed>(this);
      last_feed = feed.get();
      answer.stream = std::move(feed);
      answer.response.content_type = "text/event-stream";
      return respond(std::move(answer));
    }
    if (request.path == "/later") {
      later = std::move(respond);
      ++asked_later;
      return;
    }
    answer.response.content_type = "text/plain";
    answer.response.body = std::make_shared<const std::string>(
        absl::StrCat(request.path, " ", request.host, " ", request.body));
    respond(std::move(answer));
  }
  Response Refuse(int status, absl::string_view message) override {
    return {.status = status,
            .content_type = "text/plain",
            .body = std::make_shared<const std::string>(message)};
  }

  std::atomic<int> streams{0};
  std::atomic<std::thread::id> stream_ended_on;
  std::atomic<Feed*> last_feed{nullptr};  // used on the loop
  Respond later;
  std::atomic<int> asked_later{0};
};

struct Running {
  explicit Running(HttpServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    auto started = HttpServer::Start(options, &loop, &echo, &metrics);
    EXPECT_TRUE(started.ok()) << started.status();
    server = *std::move(started);
  }
  ~Running() {
    server.reset();
    loop.Stop();
  }
  int port() const { return server->port(); }

  Echo echo;
  WebMetrics metrics;
  IoLoop loop;
  std::shared_ptr<HttpServer> server;
};

// Runs `task` with the stream that was opened last.
inline void OnLoop(Running& running, std::function<void(Echo::Feed&)> task) {
  WaitFor([&] { return running.echo.last_feed != nullptr; });
  running.loop.Post([&running, task = std::move(task)] { task(*running.echo.last_feed); });
}

}  // namespace attnprune::http

#endif  // ATTNPRUNE_TESTS_SERVER_HTTP_ECHO_SERVER_H_
