#include "server/grpc/tls_credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "core/base/mutex.h"

namespace attnprune::rpc {
namespace {

// Through gRPC's C interface, whose callback gives a whole set or none: its own watcher of files
// takes a certificate whose key is not there yet, and then refuses everybody.
class LiveServerCredentials final : public grpc::ServerCredentials {
 public:
  explicit LiveServerCredentials(const tls::LiveCredentials* live) : live_(live) {
    const auto request = live->current()->texts.client_ca.empty()
                             ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                             : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, &Fetch, this));
  }
  ~LiveServerCredentials() override { grpc_server_credentials_release(credentials_); }
  LiveServerCredentials(const LiveServerCredentials&) = delete;
  LiveServerCredentials& operator=(const LiveServerCredentials&) = delete;

  // Nobody sets one.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // Called by gRPC at each handshake.
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<LiveServerCredentials*>(self)->FetchNew(config);
  }

  grpc_ssl_certificate_config_reload_status FetchNew(grpc_ssl_server_certificate_config** config) {
    const MutexLock lock(&mutex_);
    const std::shared_ptr<const tls::Credentials> now = live_->current();
    if (now == given_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    given_ = now;
    const tls::CredentialTexts& texts = now->texts;
    const grpc_ssl_pem_key_cert_pair pair = {texts.key.c_str(), texts.certificate.c_str()};
    // gRPC demands authorities also where it asks no client for a certificate.
    const std::string& authorities = texts.client_ca.empty() ? texts.certificate : texts.client_ca;
    *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const tls::LiveCredentials* const live_;
  grpc_server_credentials* credentials_ = nullptr;
  Mutex mutex_;
  std::shared_ptr<const tls::Credentials> given_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> TlsCredentials(const tls::LiveCredentials* live) {
  return std::make_shared<LiveServerCredentials>(live);
}

}  // namespace attnprune::rpc
