#include "server/grpc/grpc_host.h"

#include <grpc/compression.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/support/server_interceptor.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "server/observe/call_metrics.h"

namespace attnprune::rpc {
namespace {

constexpr int kMinPingIntervalMs = 1000;     // clients may ping this often
constexpr int kKeepaliveMs = 60'000;         // silent clients are pinged this often
constexpr int kKeepaliveTimeoutMs = 20'000;  // and count as gone without an answer for so long
constexpr char kPruneService[] = "attnprune.v1.PruneService";
constexpr char kTensorService[] = "attnprune.v1.TensorService";
constexpr char kReady[] = "ready", kLive[] = "live";  // for probes: a draining server still lives

// gRPC says only that it failed: the system is asked again, for the reason.
std::string WhyNotListening(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos) return "not of the form HOST:PORT";
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const std::string host = listen.substr(0, colon), port = listen.substr(colon + 1);
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found)) {
    return gai_strerror(error);
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, &freeaddrinfo);
  const int fd = socket(found->ai_family, found->ai_socktype, 0);
  if (fd < 0) return std::strerror(errno);
  const bool bound = bind(fd, found->ai_addr, found->ai_addrlen) == 0 && ::listen(fd, 1) == 0;
  const std::string reason = bound ? "unknown reason" : std::strerror(errno);
  close(fd);
  return reason;
}

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

void Configure(const GrpcHostOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_message_bytes));
  // gRPC looks at a message's size after it has unpacked all of it.
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  // Otherwise a second server could take the same port and half of the clients.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Windows that grow with the connection's speed would let an upload run many chunks ahead of the
  // disk; all of them would be lost, and sent twice, when the server is killed.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
}

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
  int port = 0;
  if (options.calls != nullptr) {
    std::vector<std::unique_ptr<ServerInterceptorFactoryInterface>> counting;
    counting.push_back(std::make_unique<CallCounting>(options.calls));
    builder.experimental().SetInterceptorCreators(std::move(counting));
  }
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &port);
  for (grpc::Service* const service : services) builder.RegisterService(service);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.listen, ": ", WhyNotListening(options.listen)));
  }
  SetHealth(*server, true);
  return std::unique_ptr<GrpcHost>(new GrpcHost(std::move(server), port));
}

GrpcHost::GrpcHost(std::unique_ptr<grpc::Server> server, int port)
    : server_(std::move(server)), port_(port) {}

GrpcHost::~GrpcHost() { Shutdown(absl::InfinitePast()); }

void GrpcHost::SetServing(bool serving) { SetHealth(*server_, serving); }

void GrpcHost::Shutdown(absl::Time deadline) {
  // gRPC takes the system's time.
  server_->Shutdown(absl::ToChronoTime(absl::Now() + (deadline - SteadyNow())));
  server_->Wait();
}

}  // namespace attnprune::rpc
