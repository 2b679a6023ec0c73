#include "server/grpc/prune_service.h"

#include <grpcpp/support/server_callback.h>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>

#include "attnprune/v1/prune_service.grpc.pb.h"
#include "server/grpc/status.h"
#include "server/grpc/watch_reactor.h"

namespace attnprune::rpc {

namespace asio = boost::asio;

namespace {

absl::Status Assign(absl::Status status, google::protobuf::Empty*) { return status; }

template <typename Message>
absl::Status Assign(absl::StatusOr<Message> result, Message* response) {
  if (result.ok()) *response = *std::move(result);
  return result.status();
}

class PruneService final : public v1::PruneService::CallbackService, public PruneServiceHandle {
 public:
  PruneService(const PruneServiceOptions& options, const api::JobApi* api, api::JobHub* hub)
      : api_(*api),
        on_call_(options.on_call),
        io_(static_cast<size_t>(options.io_threads)),
        watch_{.hub = hub, .io = &io_, .registry = &registry_, .heartbeat = options.heartbeat} {}
  ~PruneService() override { io_.join(); }

  grpc::Service* service() override { return this; }
  void Drain() override { registry_.Drain(); }

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context,
                                      const v1::CreateJobRequest* request,
                                      v1::Job* response) override {
    return Run("CreateJob", context, response, [this, request](CallRecord& record) {
      absl::StatusOr<v1::Job> job = api_.CreateJob(*request, record.origin());
      if (job.ok()) record.SetJob(job->name());
      return job;
    });
  }
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request, v1::Job* response) override {
    return Run("GetJob", context, response, [this, request](CallRecord& record) {
      record.SetJob(request->name());
      return api_.GetJob(request->name());
    });
  }
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override {
    return Run("ListJobs", context, response,
               [this, request](CallRecord&) { return api_.ListJobs(*request); });
  }
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::Job* response) override {
    return Run("CancelJob", context, response, [this, request](CallRecord& record) {
      record.SetJob(request->name());
      return api_.CancelJob(request->name());
    });
  }
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* context,
                                      const v1::DeleteJobRequest* request,
                                      google::protobuf::Empty* response) override {
    return Run("DeleteJob", context, response, [this, request](CallRecord& record) {
      record.SetJob(request->name());
      return api_.DeleteJob(request->name());
    });
  }
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest*,
                                          v1::ServerInfo* response) override {
    return Run("GetServerInfo", context, response,
               [this](CallRecord&) { return api_.GetServerInfo(); });
  }
  grpc::ServerWriteReactor<v1::JobEvent>* WatchJob(grpc::CallbackServerContext* context,
                                                   const v1::WatchJobRequest* request) override {
    return WatchReactor::Start(watch_, *request, CallRecord(on_call_, "WatchJob", context));
  }

 private:
  // Runs `call` on a thread that may wait. A call whose client has gone by then is not begun.
  template <typename Response, typename Call>
  grpc::ServerUnaryReactor* Run(const char* method, grpc::CallbackServerContext* context,
                                Response* response, Call call) {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    asio::post(io_, [context, response, reactor, record = CallRecord(on_call_, method, context),
                     call = std::move(call)]() mutable {
      const grpc::Status status =
          context->IsCancelled() ? grpc::Status::CANCELLED : ToGrpc(Assign(call(record), response));
      record.Finish(status);
      reactor->Finish(status);
    });
    return reactor;
  }

  const api::JobApi& api_;
  const RpcListener on_call_;
  WatchRegistry registry_;
  asio::thread_pool io_;
  const WatchContext watch_;
};

}  // namespace

std::unique_ptr<PruneServiceHandle> NewPruneService(const PruneServiceOptions& options,
                                                    const api::JobApi* api, api::JobHub* hub) {
  return std::make_unique<PruneService>(options, api, hub);
}

}  // namespace attnprune::rpc
