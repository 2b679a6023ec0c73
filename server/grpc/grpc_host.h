// A gRPC server with the settings that this service needs, health checking and reflection.
#ifndef ATTNPRUNE_SERVER_GRPC_GRPC_HOST_H_
#define ATTNPRUNE_SERVER_GRPC_GRPC_HOST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace attnprune {
class CallMetrics;
}

namespace attnprune::tls {
class LiveCredentials;
}

namespace grpc {
class Server;
class ServerCredentials;
class Service;
namespace experimental {
class ExternalConnectionAcceptor;
}
}  // namespace grpc

namespace attnprune::rpc {

class Connections;
class Door;

struct GrpcHostOptions {
  std::string listen;                            // HOST:PORT; port 0: any free one
  int64_t max_message_bytes = int64_t{4} << 20;  // received
  CallMetrics* calls = nullptr;  // counts them (GrpcCalls); may be null; must outlive the host
  Connections* connections = nullptr;         // null: no limit; must outlive the host
  const tls::LiveCredentials* tls = nullptr;  // null: plain text; must outlive the host
  // Whether the process is short of memory: then Connections::CloseStrangers. Empty: never. Asked
  // often, while there are strangers.
  std::function<bool()> short_of_memory;
  std::function<void(int64_t)> on_strangers_closed;  // told how many; may be empty
};

// Thread-safe.
class GrpcHost {
 public:
  // Listens, and says SERVING in grpc.health.v1 for "", each service, "ready" and "live". The
  // services must outlive the host. UNAVAILABLE: cannot listen there, and why.
  static absl::StatusOr<std::unique_ptr<GrpcHost>> Start(
      const GrpcHostOptions& options, const std::vector<grpc::Service*>& services);
  ~GrpcHost();  // Shutdown at once

  int port() const { return port_; }
  // What health says, except of "live", which stays; calls are taken either way.
  void SetServing(bool serving);
  // Takes no more calls, waits until `deadline` (of SteadyNow) for those there are, then cancels
  // them. Returns when none is left.
  void Shutdown(absl::Time deadline);

 private:
  using Acceptor = grpc::experimental::ExternalConnectionAcceptor;

  GrpcHost(std::shared_ptr<grpc::ServerCredentials> credentials, std::unique_ptr<Acceptor> acceptor,
           std::unique_ptr<grpc::Server> server, std::unique_ptr<Door> door);
  void Open(const GrpcHostOptions& options);

  const std::shared_ptr<grpc::ServerCredentials> credentials_;  // asked while the server lives
  const std::unique_ptr<Acceptor> acceptor_;
  const std::unique_ptr<grpc::Server> server_;
  const std::unique_ptr<Door> door_;  // closed before the server goes
  const int port_;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_GRPC_HOST_H_
