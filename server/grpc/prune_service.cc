#include "server/grpc/prune_service.h"

#include <grpcpp/support/server_callback.h>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>
#include <utility>

#include "attnprune/v1/prune_service.grpc.pb.h"
#include "server/grpc/fair_share.h"
#include "server/grpc/status.h"
#include "server/grpc/watch_reactor.h"

namespace attnprune::rpc {

namespace asio = boost::asio;

namespace {

using access::Caller;

constexpr char kNoTenant[] = "?";  // no tenant's name

absl::Status Assign(absl::Status status, google::protobuf::Empty*) { return status; }

template <typename Message>
absl::Status Assign(absl::StatusOr<Message> result, Message* response) {
  if (result.ok()) *response = *std::move(result);
  return result.status();
}

class PruneService final : public v1::PruneService::CallbackService, public PruneServiceHandle {
 public:
  PruneService(const PruneServiceOptions& options, const access::Gate* gate, const api::JobApi* api,
               const api::RunApi* runs, api::JobHub* hub, api::QueueOutlook* outlook)
      : api_(*api),
        runs_(*runs),
        port_{gate, options.on_call, options.connections},
        turns_(options.io_threads),
        io_(static_cast<size_t>(options.io_threads)),
        watch_{.hub = hub,
               .outlook = outlook,
               .io = &io_,
               .registry = &registry_,
               .heartbeat = options.heartbeat} {}
  ~PruneService() override { io_.join(); }

  grpc::Service* service() override { return this; }
  void Drain() override { registry_.Drain(); }

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context,
                                      const v1::CreateJobRequest* request,
                                      v1::Job* response) override {
    return Run("CreateJob", context, response,
               [this, request](const Caller& caller, CallRecord& record) {
                 if (request->validate_only()) record.SetValidateOnly();
                 absl::StatusOr<v1::Job> made = api_.CreateJob(caller, *request, record.origin());
                 if (made.ok()) record.SetJob(made->name());
                 return made;
               });
  }
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request, v1::Job* response) override {
    return OfOne("GetJob", context, *request, response,
                 [this](const Caller& caller, const std::string& name) {
                   return api_.GetJob(caller, name);
                 });
  }
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::Job* response) override {
    return OfOne("CancelJob", context, *request, response,
                 [this](const Caller& caller, const std::string& name) {
                   return api_.CancelJob(caller, name);
                 });
  }
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* context,
                                      const v1::DeleteJobRequest* request,
                                      google::protobuf::Empty* response) override {
    return OfOne("DeleteJob", context, *request, response,
                 [this](const Caller& caller, const std::string& name) {
                   return api_.DeleteJob(caller, name);
                 });
  }
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override {
    return Run("ListJobs", context, response, [this, request](const Caller& caller, CallRecord&) {
      return api_.ListJobs(caller, *request);
    });
  }
  grpc::ServerUnaryReactor* CreateRun(grpc::CallbackServerContext* context,
                                      const v1::CreateRunRequest* request,
                                      v1::Run* response) override {
    return Run("CreateRun", context, response,
               [this, request](const Caller& caller, CallRecord& record) {
                 if (request->validate_only()) record.SetValidateOnly();
                 absl::StatusOr<v1::Run> made = runs_.CreateRun(caller, *request, record.origin());
                 if (made.ok()) record.SetJob(made->name());
                 return made;
               });
  }
  grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext* context,
                                   const v1::GetRunRequest* request, v1::Run* response) override {
    return OfOne("GetRun", context, *request, response,
                 [this](const Caller& caller, const std::string& name) {
                   return runs_.GetRun(caller, name);
                 });
  }
  grpc::ServerUnaryReactor* CancelRun(grpc::CallbackServerContext* context,
                                      const v1::CancelRunRequest* request,
                                      v1::Run* response) override {
    return OfOne("CancelRun", context, *request, response,
                 [this](const Caller& caller, const std::string& name) {
                   return runs_.CancelRun(caller, name);
                 });
  }
  grpc::ServerUnaryReactor* ResumeRun(grpc::CallbackServerContext* context,
                                      const v1::ResumeRunRequest* request,
                                      v1::Run* response) override {
    return OfOne("ResumeRun", context, *request, response,
                 [this](const Caller& caller, const std::string& name) {
                   return runs_.ResumeRun(caller, name);
                 });
  }
  grpc::ServerUnaryReactor* DeleteRun(grpc::CallbackServerContext* context,
                                      const v1::DeleteRunRequest* request,
                                      google::protobuf::Empty* response) override {
    return OfOne("DeleteRun", context, *request, response,
                 [this](const Caller& caller, const std::string& name) {
                   return runs_.DeleteRun(caller, name);
                 });
  }
  grpc::ServerUnaryReactor* ListRuns(grpc::CallbackServerContext* context,
                                     const v1::ListRunsRequest* request,
                                     v1::ListRunsResponse* response) override {
    return Run("ListRuns", context, response, [this, request](const Caller& caller, CallRecord&) {
      return runs_.ListRuns(caller, *request);
    });
  }
  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest*,
                                          v1::ServerInfo* response) override {
    return Run("GetServerInfo", context, response,
               [this](const Caller&, CallRecord&) { return api_.GetServerInfo(); });
  }
  grpc::ServerWriteReactor<v1::JobEvent>* WatchJob(grpc::CallbackServerContext* context,
                                                   const v1::WatchJobRequest* request) override {
    return WatchReactor::Start(watch_, *request,
                               CallRecord(port_, "WatchJob", context, CallRecord::Kind::kStream));
  }

 private:
  // A call about the job or run that the request names.
  template <typename Request, typename Response, typename Call>
  grpc::ServerUnaryReactor* OfOne(const char* method, grpc::CallbackServerContext* context,
                                  const Request& request, Response* response, Call call) {
    return Run(method, context, response,
               [&request, call](const Caller& caller, CallRecord& record) {
                 record.SetJob(request.name());
                 return call(caller, request.name());
               });
  }

  // Runs `call` on a thread that may wait, when it is its tenant's turn. A call whose client has
  // gone by then is not begun, nor one whose caller may not make it: those take turns as one
  // tenant.
  template <typename Response, typename Call>
  grpc::ServerUnaryReactor* Run(const char* method, grpc::CallbackServerContext* context,
                                Response* response, Call call) {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    const auto record = std::make_shared<CallRecord>(port_, method, context);
    const std::string tenant = record->caller().ok() ? record->caller()->tenant : kNoTenant;
    const auto answer = [this, context, response, reactor, record, tenant, call] {
      const grpc::Status status = context->IsCancelled() ? grpc::Status::CANCELLED
                                  : record->caller().ok()
                                      ? ToGrpc(Assign(call(*record->caller(), *record), response))
                                      : ToGrpc(record->caller().status());
      record->Finish(status);
      reactor->Finish(status);
      turns_.Release(tenant);
    };
    turns_.Acquire(tenant, [this, answer] { asio::post(io_, answer); });
    return reactor;
  }

  const api::JobApi& api_;
  const api::RunApi& runs_;
  const CallPort port_;
  WatchRegistry registry_;
  FairShare turns_;  // at the threads of io_, which streams use too
  asio::thread_pool io_;
  const WatchContext watch_;
};

}  // namespace

std::unique_ptr<PruneServiceHandle> NewPruneService(const PruneServiceOptions& options,
                                                    const access::Gate* gate,
                                                    const api::JobApi* api, const api::RunApi* runs,
                                                    api::JobHub* hub, api::QueueOutlook* outlook) {
  return std::make_unique<PruneService>(options, gate, api, runs, hub, outlook);
}

}  // namespace attnprune::rpc
