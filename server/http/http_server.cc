#include "server/http/http_server.h"

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/http/http_session.h"

namespace attnprune::http {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

// After a failed accept, which is for want of file descriptors.
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);
constexpr absl::string_view kFull =
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n"
    "Content-Length: 0\r\n\r\n";

class BeastServer final : public HttpServer, public std::enable_shared_from_this<BeastServer> {
 public:
  BeastServer(const HttpServerOptions& options, IoLoop* loop, Handler* handler, WebMetrics* metrics)
      : context_(std::make_shared<SessionContext>(SessionContext{
            options, loop, handler, metrics, [this](Session* session) { OnClosed(session); }})),
        acceptor_(loop->context()) {}

  absl::Status Listen();
  void Accept();

  int port() const override { return port_; }
  std::string address() const override {
    const std::string& listen = context_->options.listen;
    return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port_);
  }
  void Shutdown(absl::Time deadline) override;

 private:
  void OnAccepted(tcp::socket socket);
  bool MakeRoom();
  void OnClosed(Session* session);
  void Drain();
  void CloseAll();

  const std::shared_ptr<const SessionContext> context_;
  tcp::acceptor acceptor_;
  int port_ = 0;

  // On the loop only.
  std::set<std::shared_ptr<Session>> sessions_;
  bool draining_ = false;

  Mutex mutex_;
  CondVar changed_;
  bool idle_ ABSL_GUARDED_BY(mutex_) = false;  // draining, and no session is left
};

absl::Status BeastServer::Listen() {
  const std::string& listen = context_->options.listen;
  const size_t colon = listen.rfind(':');
  absl::string_view host = absl::string_view(listen).substr(0, colon);
  absl::ConsumePrefix(&host, "[");
  absl::ConsumeSuffix(&host, "]");
  boost::system::error_code error;
  tcp::resolver resolver(context_->loop->context());
  const auto found =
      resolver.resolve(std::string(host), listen.substr(colon + 1), tcp::resolver::passive, error);
  if (!error) {
    const tcp::endpoint endpoint = *found.begin();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
  }
  if (error) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", listen, " for HTTP: ", error.message()));
  }
  port_ = acceptor_.local_endpoint().port();
  return absl::OkStatus();
}

void BeastServer::Accept() {
  acceptor_.async_accept(
      [self = shared_from_this()](const boost::system::error_code& error, tcp::socket socket) {
        if (self->draining_) return;
        if (error) {
          return self->context_->loop->After(kAcceptPause, [self] {
            if (!self->draining_) self->Accept();
          });
        }
        self->OnAccepted(std::move(socket));
        self->Accept();
      });
}

// Whether one more may come; if need be in place of the one that has kept the server waiting
// longest. A limit by address would not do: behind a proxy and on loopback all clients have the
// same.
bool BeastServer::MakeRoom() {
  if (sessions_.size() < static_cast<size_t>(context_->options.max_connections)) return true;
  const std::shared_ptr<Session> longest = *std::min_element(
      sessions_.begin(), sessions_.end(),
      [](const auto& a, const auto& b) { return a->waiting_since() < b->waiting_since(); });
  if (longest->waiting_since() == absl::InfiniteFuture()) return false;
  context_->metrics->evicted_connections.Add();
  longest->Close();
  return true;
}

void BeastServer::OnAccepted(tcp::socket socket) {
  if (!MakeRoom()) {
    context_->metrics->refused_connections.Add();  // counted before the client can know
    boost::system::error_code ignored;
    socket.non_blocking(true, ignored);
    socket.write_some(asio::const_buffer(kFull.data(), kFull.size()), ignored);
    return;
  }
  const auto session = std::make_shared<Session>(std::move(socket), context_);
  sessions_.insert(session);
  context_->metrics->connections = static_cast<int>(sessions_.size());
  session->Start();
}

void BeastServer::OnClosed(Session* session) {
  sessions_.erase(session->shared_from_this());
  context_->metrics->connections = static_cast<int>(sessions_.size());
  if (!draining_ || !sessions_.empty()) return;
  const MutexLock lock(&mutex_);
  idle_ = true;
  changed_.NotifyAll();
}

void BeastServer::Drain() {
  draining_ = true;
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  for (const auto& session : std::set(sessions_)) session->Drain();  // which may leave
  const MutexLock lock(&mutex_);
  idle_ = sessions_.empty();
  changed_.NotifyAll();
}

void BeastServer::CloseAll() {
  for (const auto& session : std::set(sessions_)) session->Close();
}

void BeastServer::Shutdown(absl::Time deadline) {
  context_->loop->Post([self = shared_from_this()] { self->Drain(); });
  constexpr absl::Duration kToClose = absl::Seconds(1);  // what is left, after the deadline
  const auto idle = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return idle_; };
  {
    const MutexLock lock(&mutex_);
    if (changed_.WaitFor(&mutex_, deadline - SteadyNow(), idle)) return;
  }
  context_->loop->Post([self = shared_from_this()] { self->CloseAll(); });
  const MutexLock lock(&mutex_);
  changed_.WaitFor(&mutex_, kToClose, idle);
}

}  // namespace

// Pending operations keep a server, and a server's sessions its context.
absl::StatusOr<std::shared_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              IoLoop* loop, Handler* handler,
                                                              WebMetrics* metrics) {
  const auto server = std::make_shared<BeastServer>(options, loop, handler, metrics);
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  loop->Post([server] { server->Accept(); });
  return std::shared_ptr<HttpServer>(
      server.get(), [server](HttpServer*) { server->Shutdown(absl::InfinitePast()); });
}

}  // namespace attnprune::http
