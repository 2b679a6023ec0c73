// Both ports of a server with tokens, over real stores and without workers, and clients of it.
#ifndef ATTNPRUNE_TESTS_SERVER_GRPC_ACCESS_WORLD_H_
#define ATTNPRUNE_TESTS_SERVER_GRPC_ACCESS_WORLD_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attnprune/v1/prune_service.grpc.pb.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "core/base/mutex.h"
#include "server/access/gate.h"
#include "server/grpc/grpc_host.h"
#include "server/grpc/prune_service.h"
#include "server/web/web_host.h"
#include "tests/server/api/backend.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/server/http/http_client.h"

namespace attnprune::rpc {

// Tenants "mine" and "other" with a reader and a submitter each, "ops" with an admin.
class AccessWorld {
 public:
  AccessWorld();
  ~AccessWorld();

  JobStore& jobs() { return backend_.jobs(); }
  api::Backend& backend() { return backend_; }
  v1::PruneService::Stub& prune() { return *prune_stub_; }
  v1::TensorService::Stub& tensors() { return *tensor_stub_; }
  const std::shared_ptr<grpc::Channel>& channel() { return channel_; }
  int http_port() const { return web_->port(); }

  // Of "mine-reader" and its like; of "" none, of "wrong" one that is in no file.
  std::string TokenOf(const std::string& who) const;
  // Takes it out of the token file.
  void Revoke(const std::string& who);

  // A queued job or run of that tenant; its name.
  std::string AddJob(const std::string& tenant, JobKind kind = JobKind::kMethods);
  // One that has ended, so that it can be deleted and, if it is a run, resumed.
  std::string AddEnded(const std::string& tenant, JobKind kind = JobKind::kMethods);

  // A context with the token of `who`, for one call.
  std::unique_ptr<grpc::ClientContext> Context(const std::string& who) const;
  template <typename Stub, typename Request, typename Response>
  grpc::Status Call(Stub& stub,
                    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const std::string& who, const Request& request, Response* response) {
    return (stub.*method)(Context(who).get(), request, response);
  }
  template <typename Stub, typename Request, typename Response>
  grpc::Status Call(Stub& stub,
                    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const std::string& who, const Request& request) {
    Response response;
    return Call(stub, method, who, request, &response);
  }
  // The whole stream's status; of an upload, `sent` says how many bytes it took.
  grpc::Status Watch(const std::string& who, const std::string& name);
  grpc::Status Upload(const std::string& who, const std::string& bytes,
                      v1::UploadTensorResponse* response = nullptr);
  grpc::Status Download(const std::string& who, const std::string& sha256,
                        std::string* bytes = nullptr);
  std::vector<std::string> Missing(const std::string& who, const std::vector<std::string>& digests);

  // With "Authorization: Bearer …" of `who`, unless that is "".
  http::Received Ask(const std::string& who, const std::string& verb, const std::string& target,
                     const std::string& headers = "", const std::string& body = "");

  // Called at each call's end from now on, on the call's own thread. Before the first call.
  void OnCallEnd(std::function<void(const FinishedRpc&)> listener) {
    on_call_end_ = std::move(listener);
  }
  std::vector<FinishedRpc> calls() const {
    const MutexLock lock(&mutex_);
    return calls_;
  }

 private:
  void WriteTokens();

  const TemporaryFolder folder_;
  std::map<std::string, std::string> tokens_;  // by who
  std::map<std::string, std::string> lines_;   // of the file, by who
  api::Backend backend_;
  std::unique_ptr<access::Gate> gate_;
  http::WebMetrics metrics_;
  std::function<void(const FinishedRpc&)> on_call_end_;
  mutable Mutex mutex_;
  std::vector<FinishedRpc> calls_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<PruneServiceHandle> prune_;
  std::unique_ptr<grpc::Service> tensor_;
  std::unique_ptr<GrpcHost> host_;
  std::unique_ptr<web::WebHost> web_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::PruneService::Stub> prune_stub_;
  std::unique_ptr<v1::TensorService::Stub> tensor_stub_;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_TESTS_SERVER_GRPC_ACCESS_WORLD_H_
