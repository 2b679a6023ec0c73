// What a client demands of a server and shows to it: TLS, certificates and a token, by
// ClientOptions. Internal to this library.
#ifndef ATTNPRUNE_CLIENT_LIBRARY_SECURITY_H_
#define ATTNPRUNE_CLIENT_LIBRARY_SECURITY_H_

#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/library/client.h"

namespace attnprune::client {

struct Security {
  std::shared_ptr<grpc::ChannelCredentials> channel;
  std::string authorization;  // metadata of each call, "Bearer ..."; empty: none
  bool tls = false;
};

// Reads and checks the files. INVALID_ARGUMENT naming the option, the rule and the file, never what
// is in it.
absl::StatusOr<Security> SecurityOf(const ClientOptions& options);

// "127.0.0.1:50051", "[::1]:50051", "localhost:50051", "unix:path": no other machine hears what is
// sent there. Pure.
bool IsThisMachine(absl::string_view server);

// `error` in other words where gRPC's own show that TLS is why; such an error that trying again
// does not mend is marked (IsForGood). Pure.
absl::Status ExplainTls(const absl::Status& error, const ClientOptions& options, bool tls);

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_SECURITY_H_
