// Counts gRPC calls by name, code and time.
#ifndef ATTNPRUNE_SERVER_GRPC_CALL_COUNTING_H_
#define ATTNPRUNE_SERVER_GRPC_CALL_COUNTING_H_

#include <memory>

#include "server/observe/call_metrics.h"

namespace grpc::experimental {
class ServerInterceptorFactoryInterface;
}

namespace attnprune::rpc {

using CallCounting = grpc::experimental::ServerInterceptorFactoryInterface;

// For a server's interceptors. Observes only, and delays no call. A call counts when it is over;
// one that has sent no status by then is CANCELLED. metrics must outlive the server.
std::unique_ptr<CallCounting> NewCallCounting(CallMetrics* metrics);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_CALL_COUNTING_H_
