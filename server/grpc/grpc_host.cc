#include "server/grpc/grpc_host.h"

#include <grpc/compression.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/support/server_interceptor.h>
#include <unistd.h>

#include <atomic>
#include <utility>

#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "server/grpc/connections.h"
#include "server/grpc/door.h"
#include "server/grpc/tls_credentials.h"
#include "server/observe/call_metrics.h"

namespace attnprune::rpc {
namespace {

constexpr int kMinPingIntervalMs = 1000;     // clients may ping this often
constexpr int kKeepaliveMs = 60'000;         // silent clients are pinged this often
constexpr int kKeepaliveTimeoutMs = 20'000;  // and count as gone without an answer for so long
constexpr int kHandshakeMs = 30'000;         // a connection's time to begin, TLS included
constexpr int kStreamsPerConnection = 1000;  // calls of a client beyond these wait at the client
// Of reflection, the only calls that have a thread each: beyond them they are RESOURCE_EXHAUSTED.
constexpr int kSyncThreads = 16;
constexpr int kHealthWatches = 1000;  // that may be open at once: no token is asked of them
constexpr char kHealthWatch[] = "/grpc.health.v1.Health/Watch";
constexpr char kPruneService[] = "attnprune.v1.PruneService";
constexpr char kTensorService[] = "attnprune.v1.TensorService";
constexpr char kReady[] = "ready", kLive[] = "live";  // for probes: a draining server still lives

using FromFd = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerInterceptorFactoryInterface;
using grpc::experimental::ServerRpcInfo;

// Counts one call by name, code and time, when it is over; one that has sent no status by then is
// CANCELLED. Observes only. Lives as long as gRPC keeps it.
class CountedCall final : public grpc::experimental::Interceptor {
 public:
  CountedCall(CallMetrics* metrics, const char* method)
      : metrics_(metrics),
        name_(metrics->NameIndex(absl::StripPrefix(method == nullptr ? "" : method, "/"))) {
    metrics_->Begin(name_);
  }
  ~CountedCall() override {
    metrics_->End(name_);
    metrics_->Count(name_, code_, absl::ToDoubleSeconds(SteadyNow() - start_));
  }

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      code_ = static_cast<size_t>(methods->GetSendStatus().error_code());
    }
    methods->Proceed();
  }

 private:
  CallMetrics* const metrics_;
  const size_t name_;
  const absl::Time start_ = SteadyNow();
  size_t code_ = static_cast<size_t>(grpc::StatusCode::CANCELLED);
};

class CallCounting final : public ServerInterceptorFactoryInterface {
 public:
  explicit CallCounting(CallMetrics* metrics) : metrics_(metrics) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return new CountedCall(metrics_, info->method());
  }

 private:
  CallMetrics* const metrics_;
};

// One of the health watches that are open. Observes only.
class HealthWatch final : public grpc::experimental::Interceptor {
 public:
  explicit HealthWatch(std::atomic<int>* open) : open_(open) {}
  ~HealthWatch() override { --*open_; }
  void Intercept(InterceptorBatchMethods* methods) override { methods->Proceed(); }

 private:
  std::atomic<int>* const open_;
};

// Cancels one that is too many. Must outlive its calls, as gRPC sees to.
class HealthWatchLimit final : public ServerInterceptorFactoryInterface {
 public:
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    if (info->method() == nullptr || absl::string_view(info->method()) != kHealthWatch) {
      return nullptr;
    }
    if (++open_ > kHealthWatches) info->server_context()->TryCancel();
    return new HealthWatch(&open_);
  }

 private:
  std::atomic<int> open_{0};
};

std::vector<std::unique_ptr<ServerInterceptorFactoryInterface>> Interceptors(CallMetrics* calls) {
  std::vector<std::unique_ptr<ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(std::make_unique<HealthWatchLimit>());
  if (calls != nullptr) interceptors.push_back(std::make_unique<CallCounting>(calls));
  return interceptors;
}

void Configure(const GrpcHostOptions& options, grpc::ServerBuilder& builder) {
  grpc::ResourceQuota quota("attnprune");
  quota.SetMaxThreads(kSyncThreads);
  // Of memory it would bound nothing: gRPC 1.51 counts calls by it, and cancels none.
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  // gRPC looks at a message's size after it has unpacked all of it.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnection);
  // Otherwise a second server could take the same port and half of the clients.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  // Windows that grow with the connection's speed would let an upload run many chunks ahead of the
  // disk; all of them would be lost, and sent twice, when the server is killed.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
}

// What is done about strangers where memory is short: gRPC 1.51 bounds neither calls of which the
// headers came and no message, nor calls that are begun and reset, and both need no token.
class StrangerWatch {
 public:
  explicit StrangerWatch(const GrpcHostOptions& options)
      : connections_(options.short_of_memory ? options.connections : nullptr),
        short_of_memory_(options.short_of_memory),
        on_closed_(options.on_strangers_closed) {}

  // As Door::Open takes it.
  int Look() {
    if (connections_ == nullptr || !connections_->HasStrangers()) return -1;
    const absl::Duration since = SteadyNow() - last_;
    if (since < kLook) return static_cast<int>(absl::ToInt64Milliseconds(kLook - since)) + 1;
    last_ = SteadyNow();
    const int64_t closed = short_of_memory_() ? connections_->CloseStrangers() : 0;
    if (closed > 0 && on_closed_) on_closed_(closed);
    return static_cast<int>(absl::ToInt64Milliseconds(kLook));
  }

 private:
  static constexpr absl::Duration kLook = absl::Milliseconds(20);

  Connections* const connections_;
  const std::function<bool()> short_of_memory_;
  const std::function<void(int64_t)> on_closed_;
  absl::Time last_ = absl::InfinitePast();
};

void SetHealth(grpc::Server& server, bool serving) {
  grpc::HealthCheckServiceInterface* const health = server.GetHealthCheckService();
  health->SetServingStatus(serving);
  health->SetServingStatus(kPruneService, serving);
  health->SetServingStatus(kTensorService, serving);
  health->SetServingStatus(kReady, serving);
  health->SetServingStatus(kLive, true);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcHost>> GrpcHost::Start(
    const GrpcHostOptions& options, const std::vector<grpc::Service*>& services) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  Configure(options, builder);
  builder.experimental().SetInterceptorCreators(Interceptors(options.calls));
  ATTNPRUNE_ASSIGN_OR_RETURN(std::unique_ptr<Door> door, Door::Listen(options.listen));
  const std::shared_ptr<grpc::ServerCredentials> credentials =
      options.tls == nullptr ? grpc::InsecureServerCredentials() : TlsCredentials(options.tls);
  auto acceptor =
      builder.experimental().AddExternalConnectionAcceptor(FromFd::FROM_FD, credentials);
  for (grpc::Service* const service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::InternalError("gRPC makes no server");
  SetHealth(*server, true);
  std::unique_ptr<GrpcHost> host(
      new GrpcHost(credentials, std::move(acceptor), std::move(server), std::move(door)));
  host->Open(options);
  return host;
}

GrpcHost::GrpcHost(std::shared_ptr<grpc::ServerCredentials> credentials,
                   std::unique_ptr<Acceptor> acceptor, std::unique_ptr<grpc::Server> server,
                   std::unique_ptr<Door> door)
    : credentials_(std::move(credentials)),
      acceptor_(std::move(acceptor)),
      server_(std::move(server)),
      door_(std::move(door)),
      port_(door_->port()) {}

void GrpcHost::Open(const GrpcHostOptions& options) {
  Connections* const connections = options.connections;
  door_->Open(
      [this, connections](int listening, int accepted) {
        if (connections != nullptr && !connections->Add(accepted)) {
          close(accepted);
          return;
        }
        Acceptor::NewConnectionParameters connection;
        connection.listener_fd = listening;
        connection.fd = accepted;
        acceptor_->HandleNewConnection(&connection);
      },
      [watch = StrangerWatch(options)]() mutable { return watch.Look(); });
}

GrpcHost::~GrpcHost() { Shutdown(absl::InfinitePast()); }

void GrpcHost::SetServing(bool serving) { SetHealth(*server_, serving); }

void GrpcHost::Shutdown(absl::Time deadline) {
  door_->Close();
  // gRPC takes the system's time.
  server_->Shutdown(absl::ToChronoTime(absl::Now() + (deadline - SteadyNow())));
  server_->Wait();
}

}  // namespace attnprune::rpc
