// One connection. Beast and Asio stay in here and in http_server.cc.
#ifndef ATTNPRUNE_SERVER_HTTP_HTTP_SESSION_H_
#define ATTNPRUNE_SERVER_HTTP_HTTP_SESSION_H_

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "server/http/http_server.h"
#include "server/http/message.h"
#include "server/http/transport.h"
#include "server/http/web_metrics.h"

namespace attnprune::http {

class Session;

// What sessions use. What it points to outlives them.
struct SessionContext {
  HttpServerOptions options;
  IoLoop* loop;
  Handler* handler;
  WebMetrics* metrics;
  std::function<void(Session*)> on_closed;
};

// Shakes hands where there is TLS, reads a request, has it answered, sends the answer, and so on;
// or sends a stream until it ends. Every member runs on the loop. Kept alive by its operations
// under way.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(boost::asio::ip::tcp::socket socket, std::shared_ptr<const SessionContext> context);
  ~Session() = default;

  void Start();
  // No further request: closes now if none is being answered, otherwise after it, and sends a
  // stream to its end.
  void Drain();
  void Close();

  // The next piece of the request's body, to BodyReader's promise.
  void ReadForHandler(const std::function<void(BodyPiece)>& on_piece);

  // Since when the client keeps this waiting, for a request or for taking the answer.
  // InfiniteFuture: the answer is being made, or is a stream.
  absl::Time waiting_since() const { return waiting_since_; }

 private:
  using Error = boost::system::error_code;
  using PieceTaker = std::function<void(const Error& error, std::string bytes)>;

  void LimitTime(absl::Duration limit);  // of the read or write that begins next

  void OnHandshake(const Error& error);
  void Read();
  void OnHead(const Error& error);
  void ReadWhole();
  void ReadPiece(size_t most, PieceTaker then);
  void SendContinue(size_t most, PieceTaker then);
  void Refuse(const Error& error);
  void RefuseBody();
  void RefuseRequest(int status, absl::string_view message);
  void Dispatch();

  void OnAnswer(Answer answer);
  void SendHead(const Response& response, bool streams);
  void OnAnswerSent(const Error& error, size_t bytes);
  void Linger();
  void Discard();

  void OnStreamBegun(const Error& error, size_t bytes);
  void Pump();
  void SendPiece(SharedBytes piece);
  void CountAnswer();

  const std::shared_ptr<const SessionContext> context_;
  Transport stream_;
  boost::beast::flat_buffer buffer_;
  absl::optional<boost::beast::http::request_parser<boost::beast::http::buffer_body>> parser_;
  Request request_;            // whose body is being read
  std::string arriving_;       // of the body
  bool continue_due_ = false;  // the client waits for "100 Continue"

  std::string peer_;   // Request::peer
  std::string head_;   // of the answer under way
  SharedBytes piece_;  // its body, or a piece of the stream
  int route_ = 0;      // for the metrics, like the next two
  int status_ = 0;
  absl::Time asked_;
  absl::Time waiting_since_ = absl::InfiniteFuture();

  std::unique_ptr<AnswerStream> events_;
  bool chunked_ = true;            // how it is sent
  std::array<char, 512> ignored_;  // what is sent where nothing is expected
  bool head_only_ = false;         // of a HEAD request
  bool keep_alive_ = true;
  bool answering_ = false;  // from a whole request to the end of its answer
  bool writing_ = false;    // a write is under way, or has failed
  bool refused_ = false;    // what came was no request, or its body is not read to the end
  bool draining_ = false;
  bool closed_ = false;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_HTTP_SESSION_H_
