#include "server/http/http_session.h"

#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "server/tls/live_credentials.h"

namespace attnprune::http {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;

namespace {

using Parser = beast::http::request_parser<beast::http::string_body>;

constexpr absl::Duration kLinger = absl::Seconds(1);  // for a refused client to read why
constexpr absl::string_view kLastChunk = "0\r\n\r\n";

Verb VerbOf(beast::http::verb verb) {
  switch (verb) {
    case beast::http::verb::get:
      return Verb::kGet;
    case beast::http::verb::head:
      return Verb::kHead;
    case beast::http::verb::post:
      return Verb::kPost;
    default:
      return Verb::kOther;
  }
}

std::string Header(const Parser::value_type& message, const char* name) {
  const auto value = message[name];
  return {value.data(), value.size()};
}

// HTTP/1.1 needs one; of two, a proxy may have read either.
absl::Status CheckHost(const Parser::value_type& message) {
  const size_t hosts = message.count("Host");
  if (hosts > 1) return absl::InvalidArgumentError("there must be one Host header, got several");
  if (hosts == 1 || message.version() < 11) return absl::OkStatus();
  return absl::InvalidArgumentError("there must be a Host header");
}

// Any other coding than "chunked" alone would leave open where the body ends.
absl::Status CheckTransferEncoding(const Parser::value_type& message) {
  const size_t codings = message.count("Transfer-Encoding");
  if (codings == 0) return absl::OkStatus();
  const std::string coding = Header(message, "Transfer-Encoding");
  if (codings == 1 && absl::EqualsIgnoreCase(coding, "chunked")) return absl::OkStatus();
  return absl::InvalidArgumentError("Transfer-Encoding must be chunked alone");
}

// By it a page of another origin is told from our own: of two, a check may read either.
absl::Status CheckOrigin(const Parser::value_type& message) {
  if (message.count("Origin") <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError("there must be one Origin header at most, got several");
}

// Of two, a proxy may have let in either.
absl::Status CheckAuthorization(const Parser::value_type& message) {
  if (message.count("Authorization") <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError("there must be one Authorization header at most, got several");
}

Request ToRequest(Parser::value_type message) {
  Request request;
  request.verb = VerbOf(message.method());
  request.host = Header(message, "Host");
  request.origin = Header(message, "Origin");
  request.fetch_site = Header(message, "Sec-Fetch-Site");
  request.fetch_mode = Header(message, "Sec-Fetch-Mode");
  request.accept_encoding = Header(message, "Accept-Encoding");
  request.if_none_match = Header(message, "If-None-Match");
  request.last_event_id = Header(message, "Last-Event-ID");
  request.request_id = Header(message, "X-Request-Id");
  request.traceparent = Header(message, "traceparent");
  request.authorization = Header(message, "Authorization");
  request.cookie = Header(message, "Cookie");
  request.http10 = message.version() < 11;
  request.body = std::move(message.body());
  return request;
}

// Chunked: a piece of a stream is <hex length>\r\n<piece>\r\n, and the length 0 ends it.
std::string Head(const Response& response, bool streams, bool keep_alive) {
  const auto reason =
      beast::http::obsolete_reason(static_cast<beast::http::status>(response.status));
  std::string head = absl::StrCat(
      "HTTP/1.1 ", response.status, " ", absl::string_view(reason.data(), reason.size()),
      "\r\nDate: ", absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()),
      keep_alive ? "\r\n" : "\r\nConnection: close\r\n");
  if (!response.content_type.empty()) {
    absl::StrAppend(&head, "Content-Type: ", response.content_type, "\r\n");
  }
  for (const auto& [name, value] : response.headers) {
    absl::StrAppend(&head, name, ": ", value, "\r\n");
  }
  if (streams) {
    absl::StrAppend(&head, "Transfer-Encoding: chunked\r\n");
  } else if (response.status != 204 && response.status != 304) {
    absl::StrAppend(&head, "Content-Length: ", response.body == nullptr ? 0 : response.body->size(),
                    "\r\n");
  }
  return absl::StrCat(head, "\r\n");
}

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
  if (!answering_) Close();
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

void Session::OnHandshake(const Error& error) {
  if (closed_) return;
  if (!error) return Read();
  if (!Transport::MetHttp(error)) return Close();
  stream_.DropTls();
  asked_ = SteadyNow();
  answering_ = refused_ = true;
  keep_alive_ = false;
  Refuse(400, "this port speaks TLS: the address begins with https://");
}

void Session::Read() {
  parser_.emplace();
  parser_->header_limit(kMaxHeaderBytes);
  parser_->body_limit(kMaxBodyBytes);
  waiting_since_ = SteadyNow();
  LimitTime(context_->options.request_timeout);
  beast::http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](const Error& error, size_t) { self->OnRead(error); });
}

void Session::OnRead(const Error& error) {
  if (closed_) return;
  asked_ = SteadyNow();
  if (error) return Refuse(error);
  waiting_since_ = absl::InfiniteFuture();
  stream_.tcp().expires_never();
  answering_ = true;
  keep_alive_ = parser_->get().keep_alive();
  head_only_ = parser_->get().method() == beast::http::verb::head;
  Dispatch();
}

// What is no request gets an answer where one can be given, and the connection ends.
void Session::Refuse(const Error& error) {
  using Code = beast::http::error;
  const bool not_http = error.category() == make_error_code(Code::bad_method).category() &&
                        error != Code::end_of_stream && error != Code::partial_message;
  if (!not_http) return Close();
  answering_ = refused_ = true;
  keep_alive_ = head_only_ = false;
  if (error == Code::header_limit || error == Code::buffer_overflow) {
    Refuse(431, absl::StrCat("the headers must be at most ", kMaxHeaderBytes, " bytes"));
  } else if (error == Code::body_limit) {
    Refuse(413, absl::StrCat("the body must be at most ", kMaxBodyBytes, " bytes"));
  } else {
    Refuse(400, absl::StrCat("not an HTTP request: ", error.message()));
  }
}

void Session::Refuse(int status, absl::string_view message) {
  OnAnswer({.response = context_->handler->Refuse(status, message), .stream = nullptr});
}

void Session::Dispatch() {
  const std::string target(parser_->get().target());
  absl::Status status = CheckHost(parser_->get());
  status.Update(CheckTransferEncoding(parser_->get()));
  status.Update(CheckOrigin(parser_->get()));
  status.Update(CheckAuthorization(parser_->get()));
  Request request = ToRequest(parser_->release());
  request.peer = peer_;
  status.Update(ParseTarget(target, &request));
  if (!status.ok()) {
    keep_alive_ = false;
    refused_ = true;  // what follows on the connection is not read as a request
    return Refuse(400, status.message());
  }
  // The server owns its sessions. `respond` may outlive this one, and does not keep it alive; the
  // answer goes to the loop all the same, since that is where a stream must be destroyed.
  context_->handler->Handle(
      std::move(request), [weak = weak_from_this(), loop = context_->loop](Answer answer) {
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
  if (draining_) keep_alive_ = false;
  events_ = std::move(answer.stream);
  if (events_ != nullptr) keep_alive_ = false;
  piece_ = events_ == nullptr && !head_only_ ? answer.response.body : nullptr;
  SendHead(answer.response, events_ != nullptr);
}

void Session::SendHead(const Response& response, bool streams) {
  head_ = Head(response, streams, keep_alive_);
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
