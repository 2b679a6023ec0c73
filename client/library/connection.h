// The stubs of one server and what all calls share: deadlines, retries, interruption. Internal to
// this library.
#ifndef ATTNPRUNE_CLIENT_LIBRARY_CONNECTION_H_
#define ATTNPRUNE_CLIENT_LIBRARY_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "attnprune/v1/prune_service.grpc.pb.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "client/library/backoff.h"
#include "client/library/client.h"
#include "client/library/security.h"
#include "client/library/status_details.h"
#include "trace/trace_context.h"

namespace attnprune::client {

// Thread-safe.
class Connection {
 public:
  Connection(ClientOptions options, Security security);

  const ClientOptions& options() const { return options_; }
  v1::PruneService::Stub& jobs() { return *jobs_; }
  v1::TensorService::Stub& tensors() { return *tensors_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  Backoff NewBackoff(const RetryOptions& options) { return Backoff(options, ++seed_); }

  // Waits as `backoff` says after `error`. OK: try again. Else the error to return: `error` itself
  // when the patience is used up or would be in vain, CANCELLED when interrupted.
  absl::Status WaitToRetry(const absl::Status& error, Backoff& backoff);

  // Runs `call` with a context of its own until it returns anything but UNAVAILABLE; where the
  // server keeps silent meanwhile, ClientOptions::reachable is told.
  // call: (context, number of the try from 1) -> absl::Status.
  absl::Status Retry(const std::function<absl::Status(grpc::ClientContext&, int)>& call);

  // Retry for a unary call: `method` of jobs() or tensors().
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request) {
    Response response;
    const absl::Status status = Retry([&](grpc::ClientContext& context, int) {
      return FromGrpc((stub.*method)(&context, request, &response));
    });
    if (!status.ok()) return status;
    return response;
  }

  // Adds the token, if there is one, to a call that Try does not make.
  void Authorize(grpc::ClientContext& context) const;

  // grpc.health.v1 with an empty HealthCheckRequest, which asks for the server as a whole: one try
  // and the bytes of the answer.
  grpc::Status AskHealth(grpc::ClientContext& context, std::string* response) const;

  // Tells ClientOptions::reachable, unless it was told the same last.
  void TellReachable(bool reachable);

  // One try under the interrupt. timeout InfiniteDuration: no deadline.
  absl::Status Try(absl::Duration timeout,
                   const std::function<absl::Status(grpc::ClientContext&)>& call);

 private:
  // False: interrupted.
  bool Sleep(absl::Duration wait);
  std::string NextRequestId() const;
  absl::Status TryAs(const std::string& request_id, absl::Duration timeout,
                     const std::function<absl::Status(grpc::ClientContext&)>& call);

  const ClientOptions options_;
  const Security security_;
  const TraceContext trace_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::PruneService::Stub> jobs_;
  std::unique_ptr<v1::TensorService::Stub> tensors_;
  std::atomic<uint64_t> seed_;
  std::mutex telling_;
  bool told_reachable_ = true;  // by telling_
};

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_CONNECTION_H_
