#include "server/http/transport.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/sslerr.h>

#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>

namespace attnprune::http {

namespace asio = boost::asio;

Transport::Transport(asio::ip::tcp::socket socket, const std::shared_ptr<SSL_CTX>& context)
    : tcp_(std::move(socket)) {
  if (context == nullptr) return;
  SSL_CTX_up_ref(context.get());
  asio::ssl::context owner(context.get());  // gives that reference back; the stream has its own
  tls_.emplace(tcp_, owner);
}

bool Transport::MetHttp(const boost::system::error_code& error) {
  return error.category() == asio::error::get_ssl_category() &&
         ERR_GET_REASON(static_cast<unsigned long>(error.value())) ==
             SSL_R_HTTP_REQUEST;  // NOLINT(google-runtime-int): as OpenSSL has it
}

void Transport::EndTls() {
  if (!has_tls()) return;
  boost::system::error_code ignored;
  tcp_.socket().non_blocking(true, ignored);
  tls_->shutdown(ignored);
}

}  // namespace attnprune::http
