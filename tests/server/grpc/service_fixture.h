// The RPC layer over api::Backend, on 127.0.0.1 and a free port.
#ifndef ATTNPRUNE_TESTS_SERVER_GRPC_SERVICE_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_GRPC_SERVICE_FIXTURE_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "attnprune/v1/errors.pb.h"
#include "attnprune/v1/prune_service.grpc.pb.h"
#include "server/grpc/grpc_host.h"
#include "server/grpc/prune_service.h"
#include "server/tls/live_credentials.h"
#include "tests/server/api/backend.h"

namespace attnprune::rpc {

struct ServiceOptions {
  absl::Duration heartbeat = absl::Hours(1);
  api::BackendOptions backend = {};
  const tls::LiveCredentials* tls = nullptr;
  std::shared_ptr<grpc::ChannelCredentials> channel = grpc::InsecureChannelCredentials();
};

class Service {
 public:
  explicit Service(const ServiceOptions& options = {});
  ~Service();

  v1::PruneService::Stub& stub() { return *stub_; }
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }
  JobStore& jobs() { return backend_.jobs(); }
  BlobStore& tensors() { return backend_.tensors(); }
  PruneServiceHandle& service() { return *service_; }
  GrpcHost& host() { return *host_; }
  int port() const { return host_->port(); }

  // A job that the server takes; its tensors are there.
  v1::Job GoodJob() { return backend_.GoodJob(); }
  // Creates it by RPC, or fails the test.
  v1::Job Create(const v1::Job& job);
  // Claims the next job as a worker would.
  JobClaim Claim() { return backend_.Claim(); }

 private:
  api::Backend backend_;
  const std::unique_ptr<access::Gate> gate_ = *access::Gate::Open({});
  std::unique_ptr<PruneServiceHandle> service_;
  std::unique_ptr<GrpcHost> host_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::PruneService::Stub> stub_;
};

// A unary call's answer.
template <typename Response>
struct Answer {
  grpc::Status status;
  Response response;
};
Answer<v1::Job> Create(Service& service, const v1::CreateJobRequest& request);
Answer<v1::Job> Get(Service& service, const std::string& name);
Answer<v1::Job> Cancel(Service& service, const std::string& name);
grpc::Status Delete(Service& service, const std::string& name);
Answer<v1::ListJobsResponse> List(Service& service, const v1::ListJobsRequest& request);

// The detail of `Detail`'s name in an error; fails the test if it is not there.
v1::BadRequest BadRequestOf(const grpc::Status& status);
v1::RetryInfo RetryInfoOf(const grpc::Status& status);
v1::ErrorInfo ErrorInfoOf(const grpc::Status& status);
v1::PreconditionFailure PreconditionFailureOf(const grpc::Status& status);
// BadRequest's only field; empty of an error without details.
std::string FieldOf(const grpc::Status& status);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_TESTS_SERVER_GRPC_SERVICE_FIXTURE_H_
