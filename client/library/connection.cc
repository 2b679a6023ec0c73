#include "client/library/connection.h"

#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/library/server_probe.h"

namespace attnprune::client {
namespace {

constexpr int kFirstReconnectMs = 100, kLongestReconnectMs = 2000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr absl::Duration kPollInterval = absl::Milliseconds(50);
constexpr std::chrono::milliseconds kPollTime(5);

constexpr char kHealthMethod[] = "/grpc.health.v1.Health/Check";

// A unary call of a service whose messages are not compiled in.
grpc::Status RawCall(const std::shared_ptr<grpc::Channel>& channel, const char* method,
                     grpc::ClientContext& context, std::string* response) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  const grpc::Slice empty;
  const grpc::ByteBuffer request(&empty, 1);
  const auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
  call->StartCall();
  grpc::ByteBuffer bytes;
  grpc::Status status;
  call->Finish(&bytes, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  grpc::Slice slice;
  if (status.ok() && bytes.DumpToSingleSlice(&slice).ok()) {
    response->assign(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return status;
}

// gRPC waits up to two minutes between two attempts to connect by itself; our backoff decides.
std::shared_ptr<grpc::Channel> MakeChannel(const ClientOptions& options, const Security& security) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLongestReconnectMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.keepalive)));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetMaxReceiveMessageSize(-1);
  // Else the environment's proxy would get the token that is for this machine.
  if (!security.tls && !security.authorization.empty()) {
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  }
  return grpc::CreateCustomChannel(options.server, security.channel, arguments);
}

TraceContext TraceOf(const ClientOptions& options) {
  const auto given = ParseTraceparent(options.traceparent);
  return given.has_value() ? *given : NewTrace();
}

// `error` with the request id that the server's log has it under. A server that did not answer in
// time may have logged the call all the same, one that cannot be reached has not.
absl::Status NameRequest(const absl::Status& error, const grpc::ClientContext& context,
                         const std::string& sent) {
  const auto& trailing = context.GetServerTrailingMetadata();
  const auto found = trailing.find(kRequestIdKey);
  if (found != trailing.end()) {
    return WithRequestId(error, std::string(found->second.data(), found->second.size()));
  }
  return absl::IsDeadlineExceeded(error) ? WithRequestId(error, sent) : error;
}

// An error that is not of the server's own making names it.
absl::Status NameServer(const absl::Status& error, const std::string& server) {
  const bool silent = absl::IsUnavailable(error) || absl::IsDeadlineExceeded(error);
  if (!silent || absl::StrContains(error.message(), server)) return error;
  return WithMessage(error, absl::StrCat(server, ": ", error.message()));
}

}  // namespace

Connection::Connection(ClientOptions options, Security security)
    : options_(std::move(options)),
      security_(std::move(security)),
      trace_(TraceOf(options_)),
      channel_(MakeChannel(options_, security_)),
      jobs_(v1::PruneService::NewStub(channel_)),
      tensors_(v1::TensorService::NewStub(channel_)),
      seed_((uint64_t{std::random_device()()} << 32) + std::random_device()()) {}

// gRPC connects only while the channel is polled; by itself it polls every 5 s, and would notice a
// restarted server as late as that.
bool Connection::Sleep(absl::Duration wait) {
  if (options_.sleep) return options_.sleep(wait);
  const absl::Time end = absl::Now() + wait;
  for (absl::Duration left = wait; left > absl::ZeroDuration(); left = end - absl::Now()) {
    if (!Pause(options_.interrupt, std::min(left, kPollInterval))) return false;
    channel_->WaitForConnected(std::chrono::system_clock::now() + kPollTime);
  }
  return true;
}

grpc::Status Connection::AskHealth(grpc::ClientContext& context, std::string* response) const {
  return RawCall(channel_, kHealthMethod, context, response);
}

void Connection::TellReachable(bool reachable) {
  const std::lock_guard<std::mutex> lock(telling_);
  if (!options_.reachable || reachable == told_reachable_) return;
  told_reachable_ = reachable;
  options_.reachable(reachable);
}

absl::Status Connection::WaitToRetry(const absl::Status& error, Backoff& backoff) {
  if (IsForGood(error)) return error;
  const absl::optional<absl::Duration> wait = backoff.Next();
  if (!wait.has_value()) return error;
  if (!Sleep(*wait)) return absl::CancelledError("interrupted");
  return absl::OkStatus();
}

void Connection::Authorize(grpc::ClientContext& context) const {
  if (!security_.authorization.empty()) {
    context.AddMetadata("authorization", security_.authorization);
  }
}

std::string Connection::NextRequestId() const {
  return IsRequestId(options_.request_id) ? options_.request_id : NewRequestId();
}

absl::Status Connection::Try(absl::Duration timeout,
                             const std::function<absl::Status(grpc::ClientContext&)>& call) {
  return TryAs(NextRequestId(), timeout, call);
}

absl::Status Connection::TryAs(const std::string& request_id, absl::Duration timeout,
                               const std::function<absl::Status(grpc::ClientContext&)>& call) {
  grpc::ClientContext context;
  context.AddMetadata(kRequestIdKey, request_id);
  context.AddMetadata(kTraceparentKey, ToTraceparent(ChildOf(trace_)));
  Authorize(context);
  if (timeout != absl::InfiniteDuration()) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
  const std::stop_callback cancel(options_.interrupt, [&context] { context.TryCancel(); });
  absl::Status status = call(context);
  if (status.ok()) return status;
  if (options_.interrupt.stop_requested()) return absl::CancelledError("interrupted");
  // A server that is shutting down answers so what arrives on a connection that is still there.
  if (absl::IsCancelled(status)) return absl::UnavailableError("the server is shutting down");
  status = NameServer(ExplainTls(status, options_, security_.tls), options_.server);
  return NameRequest(status, context, request_id);
}

absl::Status Connection::Retry(const std::function<absl::Status(grpc::ClientContext&, int)>& call) {
  const std::string request_id = NextRequestId();
  Backoff backoff = NewBackoff(options_.retry);
  std::mutex telling;
  ServerProbe probe(*this, telling);
  for (int attempt = 1;; ++attempt) {
    const absl::Status status =
        TryAs(request_id, options_.call_timeout,
              [&](grpc::ClientContext& context) { return call(context, attempt); });
    if (!absl::IsUnavailable(status)) {
      if (!absl::IsDeadlineExceeded(status) && !absl::IsCancelled(status)) probe.Answered();
      return status;
    }
    const absl::Status waited = WaitToRetry(status, backoff);
    if (!waited.ok()) return waited;
  }
}

}  // namespace attnprune::client
