// One connection whose steps the test orders on the loop: what a server reaches by chance only.
#include "server/http/http_session.h"

#include <atomic>
#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "server/http/web_metrics.h"
#include "tests/server/http/http_client.h"

namespace attnprune::http {
namespace {

using boost::asio::ip::tcp;

// Has nothing to say, and is asked only once it is ready.
class SilentStream final : public AnswerStream {
 public:
  explicit SilentStream(std::atomic<bool>* asked_too_early) : asked_too_early_(asked_too_early) {}
  void OnReady(std::function<void()>) override { ready_ = true; }
  SharedBytes Next() override {
    if (!ready_) *asked_too_early_ = true;
    return nullptr;
  }
  bool ended() const override { return false; }

 private:
  std::atomic<bool>* const asked_too_early_;
  bool ready_ = false;
};

// Answers with a stream, and has the server drain between the head's sending and its completion:
// the answer is a task of the loop, the draining the next one, and the head's completion follows.
class DrainingHandler final : public Handler {
 public:
  explicit DrainingHandler(IoLoop* loop) : loop_(loop) {}
  void Handle(Request, Respond respond) override {
    Answer answer;
    answer.stream = std::make_unique<SilentStream>(&asked_too_early);
    respond(std::move(answer));
    loop_->Post([this] { session.lock()->Drain(); });
  }
  Response Refuse(int, absl::string_view) override { return {}; }

  std::atomic<bool> asked_too_early{false};
  std::weak_ptr<Session> session;

 private:
  IoLoop* const loop_;
};

TEST(Session, EndsAStreamInOrderThatIsDrainedWhileItsHeadIsSent) {
  IoLoop loop;
  DrainingHandler handler(&loop);
  WebMetrics metrics;
  std::atomic<bool> closed{false};
  const auto context = std::make_shared<SessionContext>(
      SessionContext{{}, &loop, &handler, &metrics, [&](Session*) { closed = true; }});
  tcp::acceptor acceptor(loop.context(), {boost::asio::ip::address_v4::loopback(), 0});
  HttpClient client(acceptor.local_endpoint().port());
  const auto session = std::make_shared<Session>(acceptor.accept(), context);
  handler.session = session;
  loop.Post([&] { session->Start(); });
  EXPECT_EQ(client.Open("/").status, 200);
  EXPECT_FALSE(client.Next().has_value());
  WaitFor([&] { return closed.load(); });
  EXPECT_FALSE(handler.asked_too_early);
  loop.Stop();
}

}  // namespace
}  // namespace attnprune::http
