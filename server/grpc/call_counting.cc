#include "server/grpc/call_counting.h"

#include <grpcpp/support/server_interceptor.h>

#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace attnprune::rpc {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

// One call; lives as long as gRPC keeps it.
class CountedCall final : public grpc::experimental::Interceptor {
 public:
  CountedCall(CallMetrics* metrics, const char* method)
      : metrics_(metrics),
        name_(metrics->NameIndex(absl::StripPrefix(method == nullptr ? "" : method, "/"))) {
    metrics_->Begin(name_);
  }
  ~CountedCall() override {
    metrics_->End(name_);
    metrics_->Count(name_, code_, absl::ToDoubleSeconds(absl::Now() - start_));
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
  const absl::Time start_ = absl::Now();
  size_t code_ = static_cast<size_t>(grpc::StatusCode::CANCELLED);
};

class CallCountingImpl final : public CallCounting {
 public:
  explicit CallCountingImpl(CallMetrics* metrics) : metrics_(metrics) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return new CountedCall(metrics_, info->method());
  }

 private:
  CallMetrics* const metrics_;
};

}  // namespace

std::unique_ptr<CallCounting> NewCallCounting(CallMetrics* metrics) {
  return std::make_unique<CallCountingImpl>(metrics);
}

}  // namespace attnprune::rpc
