// HTTP/1.1 over TCP or TLS: connections, limits and timeouts. A handler makes the answers.
#ifndef ATTNPRUNE_SERVER_HTTP_HTTP_SERVER_H_
#define ATTNPRUNE_SERVER_HTTP_HTTP_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/http/io_loop.h"
#include "server/http/message.h"

namespace attnprune::tls {
class LiveCredentials;
}

namespace attnprune::http {

class WebMetrics;

struct HttpServerOptions {
  std::string listen;  // HOST:PORT; port 0: any free one
  // At least 1. A further one takes the place of the one that has kept the server waiting longest,
  // with a request or with taking its answer; where all are streams, or wait for the server, it
  // gets 503.
  int max_connections = 2000;
  // Of each connection what it then has; null: plain HTTP. Must outlive the loop's last task.
  const tls::LiveCredentials* tls = nullptr;
  // From the beginning of a connection, or its last answer, to the end of the next request; of TLS
  // the handshake may take as long before.
  absl::Duration request_timeout = absl::Seconds(30);
  // For a piece of a body that the handler reads itself (kBodyPieceBytes, or its end) to arrive.
  absl::Duration body_timeout = absl::Minutes(2);
  // A client that takes nothing of an answer or an event for so long is dropped; a stream of events
  // can be resumed.
  absl::Duration write_timeout = absl::Seconds(60);
};

inline constexpr int kMaxHeaderBytes = 16 << 10;
inline constexpr int kMaxBodyBytes = 64 << 10;     // of one that is read whole
inline constexpr int kBodyPieceBytes = 256 << 10;  // of one that is read in pieces
// Bytes of a connection that the system buffers for a client that reads slowly.
inline constexpr int kSendBufferBytes = 128 << 10;

// Thread-safe. Everything happens on the loop; one answer a connection is under way, and of a
// stream one piece. Shuts down at once with its last owner.
class HttpServer {
 public:
  // UNAVAILABLE: cannot listen there, and why. All three must outlive the loop's last task, so stop
  // the loop (IoLoop::Stop) before they go.
  static absl::StatusOr<std::shared_ptr<HttpServer>> Start(const HttpServerOptions& options,
                                                           IoLoop* loop, Handler* handler,
                                                           WebMetrics* metrics);
  virtual ~HttpServer() = default;

  virtual int port() const = 0;
  // "127.0.0.1:8080", with the port that is listened on.
  virtual std::string address() const = 0;

  // Takes no more connections and requests, sends streams to their ends, and answers what has been
  // asked. Returns when nothing is left, or at `deadline` after closing what is.
  virtual void Shutdown(absl::Time deadline) = 0;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_HTTP_SERVER_H_
