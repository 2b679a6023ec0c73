// The bytes of one connection: TCP, or TLS over it. Internal to this library.
#ifndef ATTNPRUNE_SERVER_HTTP_TRANSPORT_H_
#define ATTNPRUNE_SERVER_HTTP_TRANSPORT_H_

#include <openssl/types.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <optional>
#include <utility>

namespace attnprune::http {

// An AsyncReadStream and AsyncWriteStream of Asio. On the loop only; one read and one write may be
// under way.
class Transport {
 public:
  using executor_type = boost::beast::tcp_stream::executor_type;

  // context: null for plain TCP.
  Transport(boost::asio::ip::tcp::socket socket, const std::shared_ptr<SSL_CTX>& context);

  executor_type get_executor() { return tcp_.get_executor(); }
  boost::beast::tcp_stream& tcp() { return tcp_; }  // for its options, time limits and end
  bool has_tls() const { return tls_.has_value() && !dropped_; }

  // Only where there is TLS, before anything else. handler(error_code).
  template <typename Handler>
  void async_handshake(Handler&& handler) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::forward<Handler>(handler));
  }
  // Whether a failed handshake was that of a client which spoke plain HTTP.
  static bool MetHttp(const boost::system::error_code& error);
  // After a failed handshake: what is still said is said in plain text.
  void DropTls() { dropped_ = true; }
  // Tells the peer that this was all, as far as that needs no waiting. Not while a write is under
  // way.
  void EndTls();

  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (has_tls()) return tls_->async_read_some(buffers, std::forward<Handler>(handler));
    tcp_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (has_tls()) return tls_->async_write_some(buffers, std::forward<Handler>(handler));
    tcp_.async_write_some(buffers, std::forward<Handler>(handler));
  }

 private:
  boost::beast::tcp_stream tcp_;
  std::optional<boost::asio::ssl::stream<boost::beast::tcp_stream&>> tls_;
  bool dropped_ = false;
};

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_TRANSPORT_H_
