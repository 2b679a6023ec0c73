#include "server/http/http_session.h"

#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "server/http/http_head.h"
#include "server/tls/live_credentials.h"

namespace attnprune::http {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;

namespace {

constexpr absl::Duration kLinger = absl::Seconds(1);  // for a refused client to read why
constexpr absl::string_view kLastChunk = "0\r\n\r\n";

// Of a new connection; null: plain.
std::shared_ptr<SSL_CTX> TlsContextOf(const HttpServerOptions& options) {
  return options.tls == nullptr ? nullptr : options.tls->current()->context;
}

// Empty: it has left already.
std::string PeerOf(const asio::ip::tcp::socket& socket) {
  boost::system::error_code error;
  const asio::ip::tcp::endpoint peer = socket.remote_endpoint(error);
  if (error) return "";
  const std::string address = peer.address().to_string();
  return peer.address().is_v6() ? absl::StrCat("[", address, "]:", peer.port())
                                : absl::StrCat(address, ":", peer.port());
}

// Of what came over a connection that still stands.
bool IsNoHttp(const boost::system::error_code& error) {
  using Code = beast::http::error;
  return error.category() == make_error_code(Code::bad_method).category() &&
         error != Code::end_of_stream && error != Code::partial_message;
}

asio::const_buffer BufferOf(absl::string_view bytes) { return {bytes.data(), bytes.size()}; }

}  // namespace

Session::Session(tcp::socket socket, std::shared_ptr<const SessionContext> context)
    : context_(std::move(context)),
      stream_(std::move(socket), TlsContextOf(context_->options)),
      buffer_(kMaxHeaderBytes + kMaxBodyBytes) {}

void Session::Start() {
  peer_ = PeerOf(stream_.tcp().socket());
  Error ignored;
  tcp::socket& socket = stream_.tcp().socket();
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), ignored);
  if (!stream_.has_tls()) return Read();
  waiting_since_ = SteadyNow();
  LimitTime(context_->options.request_timeout);
  stream_.async_handshake(
      [self = shared_from_this()](const Error& error) { self->OnHandshake(error); });
}

void Session::LimitTime(absl::Duration limit) {
  stream_.tcp().expires_after(absl::ToChronoNanoseconds(limit));
}

void Session::Drain() {
  if (draining_) return;
  draining_ = true;
  if (events_ != nullptr) return Pump();  // does nothing while the head is under way
  const bool takes_pieces = answering_ && !writing_ && !parser_->is_done();
  if (!answering_ || takes_pieces) Close();
}

void Session::Close() {
  if (closed_) return;
  closed_ = true;
  events_.reset();
  if (!writing_) stream_.EndTls();
  Error ignored;
  stream_.tcp().socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream_.tcp().close();
  context_->on_closed(this);
}

// --- Requests ---

// The body of a session's request, for its handler. Nobody waits for a piece of one that is gone.
class SessionBody final : public BodyReader {
 public:
  SessionBody(std::weak_ptr<Session> session, IoLoop* loop)
      : session_(std::move(session)), loop_(loop) {}
  void Read(std::function<void(BodyPiece)> on_piece) override {
    loop_->Post([session = session_, on_piece = std::move(on_piece)] {
      if (const auto self = session.lock()) return self->ReadForHandler(on_piece);
      on_piece({.bytes = "", .then = BodyPiece::Then::kBroken});
    });
  }

 private:
  const std::weak_ptr<Session> session_;
  IoLoop* const loop_;
};

void Session::OnHandshake(const Error& error) {
  if (closed_) return;
  if (!error) return Read();
  if (!Transport::MetHttp(error)) return Close();
  stream_.DropTls();
  asked_ = SteadyNow();
  RefuseRequest(400, "this port speaks TLS: the address begins with https://");
}

void Session::Read() {
  parser_.emplace();
  parser_->header_limit(kMaxHeaderBytes);
  parser_->body_limit(std::numeric_limits<uint64_t>::max());  // looked at below
  waiting_since_ = SteadyNow();
  LimitTime(context_->options.request_timeout);
  beast::http::async_read_header(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](const Error& error, size_t) { self->OnHead(error); });
}

void Session::OnHead(const Error& error) {
  if (closed_) return;
  asked_ = SteadyNow();
  if (error) return Refuse(error);
  keep_alive_ = parser_->get().keep_alive();
  head_only_ = parser_->get().method() == beast::http::verb::head;
  continue_due_ = ExpectsContinue(parser_->get());
  const std::string target(parser_->get().target());
  absl::Status status = CheckHead(parser_->get());
  request_ = ToRequest(parser_->get());
  request_.peer = peer_;
  status.Update(ParseTarget(target, &request_));
  if (!status.ok()) return RefuseRequest(400, status.message());
  if (context_->handler->TakesPieces(request_)) {
    request_.incoming = std::make_shared<SessionBody>(weak_from_this(), context_->loop);
    return Dispatch();
  }
  if (parser_->content_length().value_or(0) > kMaxBodyBytes) return RefuseBody();
  ReadWhole();
}

void Session::ReadWhole() {
  ReadPiece(kMaxBodyBytes, [this](const Error& error, const std::string& bytes) {
    if (closed_) return;
    if (error) return Refuse(error);
    request_.body += bytes;
    if (request_.body.size() > kMaxBodyBytes) return RefuseBody();
    if (!parser_->is_done()) return ReadWhole();
    asked_ = SteadyNow();
    Dispatch();
  });
}

// Of what has come of the body `most` bytes at most; all of it where the body ends before, or
// breaks off. `then` runs on the loop, this being alive.
void Session::ReadPiece(size_t most, PieceTaker then) {
  if (parser_->is_done()) return then(Error(), "");
  if (std::exchange(continue_due_, false)) return SendContinue(most, std::move(then));
  arriving_.resize(most);
  parser_->get().body().data = arriving_.data();
  parser_->get().body().size = most;
  waiting_since_ = SteadyNow();
  beast::http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this(), most, then = std::move(then)](Error error, size_t) {
        self->waiting_since_ = absl::InfiniteFuture();
        std::string bytes = std::exchange(self->arriving_, {});
        bytes.resize(most - self->parser_->get().body().size);
        if (error == beast::http::error::need_buffer) error = {};
        then(error, std::move(bytes));
      });
}

void Session::SendContinue(size_t most, PieceTaker then) {
  writing_ = true;
  asio::async_write(stream_, BufferOf("HTTP/1.1 100 Continue\r\n\r\n"),
                    [self = shared_from_this(), most, then = std::move(then)](const Error& error,
                                                                              size_t) mutable {
                      self->writing_ = false;
                      if (error) return then(error, "");
                      self->ReadPiece(most, std::move(then));
                    });
}

// What a handler reads itself. A client that is gone, or sends nothing more of its body, is left;
// one that sends what is no body gets the handler's answer.
void Session::ReadForHandler(const std::function<void(BodyPiece)>& on_piece) {
  if (closed_) return on_piece({.bytes = "", .then = BodyPiece::Then::kBroken});
  LimitTime(context_->options.body_timeout);
  ReadPiece(kBodyPieceBytes, [this, on_piece](const Error& error, std::string bytes) {
    using Then = BodyPiece::Then;
    const Then then = error ? Then::kBroken : parser_->is_done() ? Then::kEnd : Then::kMore;
    if (!closed_) stream_.tcp().expires_never();
    if (error && !IsNoHttp(error)) Close();
    on_piece({.bytes = std::move(bytes), .then = then});
  });
}

// What is no request gets an answer where one can be given, and the connection ends.
void Session::Refuse(const Error& error) {
  using Code = beast::http::error;
  if (!IsNoHttp(error)) return Close();
  if (error == Code::header_limit || error == Code::buffer_overflow) {
    RefuseRequest(431, absl::StrCat("the headers must be at most ", kMaxHeaderBytes, " bytes"));
  } else {
    RefuseRequest(400, absl::StrCat("not an HTTP request: ", error.message()));
  }
}

void Session::RefuseBody() {
  RefuseRequest(413, absl::StrCat("the body must be at most ", kMaxBodyBytes, " bytes"));
}

// What follows on the connection is not read as a request.
void Session::RefuseRequest(int status, absl::string_view message) {
  answering_ = refused_ = true;
  keep_alive_ = head_only_ = false;
  OnAnswer({.response = context_->handler->Refuse(status, message), .stream = nullptr});
}

// The server owns its sessions. `respond` may outlive this one, and does not keep it alive; the
// answer goes to the loop all the same, since that is where a stream must be destroyed.
void Session::Dispatch() {
  answering_ = true;
  waiting_since_ = absl::InfiniteFuture();
  stream_.tcp().expires_never();
  context_->handler->Handle(
      std::exchange(request_, {}), [weak = weak_from_this(), loop = context_->loop](Answer answer) {
        loop->Post([weak, shared = std::make_shared<Answer>(std::move(answer))] {
          if (const auto self = weak.lock()) self->OnAnswer(std::move(*shared));
        });
      });
}

// --- Answers ---

void Session::OnAnswer(Answer answer) {
  if (closed_) return;
  route_ = answer.route;
  status_ = answer.response.status;
  if (parser_.has_value() && !parser_->is_done()) refused_ = true;  // the rest of its body follows
  if (draining_ || refused_) keep_alive_ = false;
  events_ = head_only_ ? nullptr : std::move(answer.stream);
  chunked_ = !answer.response.length.has_value();
  if (events_ != nullptr) keep_alive_ = false;
  piece_ = events_ == nullptr && !head_only_ ? answer.response.body : nullptr;
  SendHead(answer.response, events_ != nullptr);
}

void Session::SendHead(const Response& response, bool streams) {
  head_ = HeadOf(response, streams && chunked_, keep_alive_);
  waiting_since_ = streams ? absl::InfiniteFuture() : SteadyNow();
  writing_ = true;
  const std::array<asio::const_buffer, 2> bytes = {
      BufferOf(head_), BufferOf(piece_ == nullptr ? absl::string_view() : *piece_)};
  LimitTime(context_->options.write_timeout);
  asio::async_write(stream_, bytes,
                    [self = shared_from_this(), streams](const Error& error, size_t sent) {
                      if (streams) return self->OnStreamBegun(error, sent);
                      self->OnAnswerSent(error, sent);
                    });
}

void Session::CountAnswer() {
  context_->metrics->OnAnswered(route_, status_, absl::ToDoubleSeconds(SteadyNow() - asked_));
}

void Session::OnAnswerSent(const Error& error, size_t bytes) {
  if (closed_) return;
  context_->metrics->OnSent(bytes);
  piece_.reset();
  answering_ = false;
  if (error) return Close();
  writing_ = false;
  CountAnswer();
  if (refused_) return Linger();
  if (!keep_alive_ || draining_) return Close();
  Read();
}

// Closing with bytes unread would reset the connection, and the answer would not arrive.
void Session::Linger() {
  stream_.EndTls();
  Error ignored;
  stream_.tcp().socket().shutdown(tcp::socket::shutdown_send, ignored);
  LimitTime(kLinger);
  Discard();
}

void Session::Discard() {
  stream_.async_read_some(asio::buffer(ignored_),
                          [self = shared_from_this()](const Error& error, size_t) {
                            if (self->closed_) return;
                            if (error) return self->Close();
                            self->Discard();
                          });
}

// --- Streams ---

void Session::OnStreamBegun(const Error& error, size_t bytes) {
  if (closed_) return;
  context_->metrics->OnSent(bytes);
  if (error) return Close();
  writing_ = false;
  CountAnswer();
  stream_.tcp().expires_never();
  Discard();  // notices at once that the client has left
  events_->OnReady([weak = weak_from_this(), loop = context_->loop] {
    loop->Post([weak] {
      if (const auto self = weak.lock()) self->Pump();
    });
  });
  Pump();
}

void Session::Pump() {
  if (closed_ || writing_ || events_ == nullptr) return;
  if (SharedBytes piece = events_->Next()) return SendPiece(std::move(piece));
  if (!events_->ended() && !draining_) return;
  static const SharedBytes& last = *new SharedBytes(std::make_shared<std::string>(kLastChunk));
  events_.reset();
  if (!chunked_) return Close();
  SendPiece(last);
}

void Session::SendPiece(SharedBytes piece) {
  writing_ = true;
  piece_ = std::move(piece);
  LimitTime(context_->options.write_timeout);
  asio::async_write(stream_, asio::buffer(*piece_),
                    [self = shared_from_this()](const Error& error, size_t sent) {
                      if (self->closed_) return;
                      self->context_->metrics->OnSent(sent);
                      self->piece_.reset();
                      if (error) return self->Close();
                      self->writing_ = false;
                      if (self->events_ == nullptr) return self->Close();
                      self->Pump();
                    });
}

}  // namespace attnprune::http
