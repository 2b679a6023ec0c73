// TLS for gRPC's port by credentials that may change while it listens.
#ifndef ATTNPRUNE_SERVER_GRPC_TLS_CREDENTIALS_H_
#define ATTNPRUNE_SERVER_GRPC_TLS_CREDENTIALS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/tls/live_credentials.h"

namespace attnprune::rpc {

// Each new connection is met with what `live` then has. For one port. Both it and the result must
// outlive the server. TLS 1.2 or later.
std::shared_ptr<grpc::ServerCredentials> TlsCredentials(const tls::LiveCredentials* live);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_TLS_CREDENTIALS_H_
