#include "client/library/client.h"

#include <grpcpp/generic/generic_stub.h>

#include <utility>

#include "client/library/connection.h"
#include "client/library/digest.h"
#include "client/library/status_details.h"
#include "core/base/status_macros.h"

namespace attnprune::client {
namespace {

// grpc.health.v1: an empty HealthCheckRequest asks for the server as a whole; the answer is
// HealthCheckResponse{status: SERVING}.
constexpr char kHealthMethod[] = "/grpc.health.v1.Health/Check";
constexpr char kServing[] = {8, 1};

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

class ClientImpl final : public Client {
 public:
  explicit ClientImpl(const ClientOptions& options) : connection_(options) {}

  absl::Status CheckHealth() override {
    return connection_.Retry([this](grpc::ClientContext& context, int) {
      std::string response;
      const grpc::Status status = RawCall(connection_.channel(), kHealthMethod, context, &response);
      if (!status.ok()) return FromGrpc(status);
      if (response == std::string(kServing, sizeof(kServing))) return absl::OkStatus();
      return absl::UnavailableError("the server is not serving");
    });
  }

  absl::StatusOr<v1::ServerInfo> GetServerInfo() override {
    return Call(&v1::PruneService::Stub::GetServerInfo, v1::GetServerInfoRequest());
  }

  absl::StatusOr<v1::Job> CreateJob(v1::CreateJobRequest request) override {
    if (request.request_id().empty()) request.set_request_id(NewRequestId());
    return Call(&v1::PruneService::Stub::CreateJob, request);
  }

  absl::StatusOr<v1::Job> GetJob(const std::string& name) override {
    v1::GetJobRequest request;
    request.set_name(name);
    return Call(&v1::PruneService::Stub::GetJob, request);
  }

  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request) override {
    return Call(&v1::PruneService::Stub::ListJobs, request);
  }

  absl::StatusOr<v1::Job> CancelJob(const std::string& name) override {
    v1::CancelJobRequest request;
    request.set_name(name);
    return Call(&v1::PruneService::Stub::CancelJob, request);
  }

  absl::Status DeleteJob(const std::string& name) override {
    v1::DeleteJobRequest request;
    request.set_name(name);
    return connection_.Retry([&](grpc::ClientContext& context, int attempt) {
      google::protobuf::Empty response;
      absl::Status status = FromGrpc(connection_.jobs().DeleteJob(&context, request, &response));
      if (attempt > 1 && absl::IsNotFound(status)) return absl::OkStatus();
      return status;
    });
  }

  absl::StatusOr<UploadProgress> Upload(absl::Span<const LocalTensor> tensors,
                                        const UploadObserver& observer) override {
    return UploadTensors(connection_, tensors, observer);
  }

  absl::StatusOr<std::string> Download(const std::string& sha256) override {
    return DownloadTensor(connection_, sha256);
  }

  absl::StatusOr<v1::Job> Watch(const std::string& name, int64_t after_sequence,
                                const EventHandler& handler) override {
    return WatchJob(connection_, name, after_sequence, handler);
  }

  absl::StatusOr<v1::Job> Replay(const std::string& name, const EventHandler& handler) override {
    return ReplayJob(connection_, name, handler);
  }

 private:
  // A unary call of PruneService that may be repeated.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::PruneService::Stub::*method)(grpc::ClientContext*,
                                                                               const Request&,
                                                                               Response*),
                                const Request& request) {
    Response response;
    ATTNPRUNE_RETURN_IF_ERROR(connection_.Retry([&](grpc::ClientContext& context, int) {
      return FromGrpc((connection_.jobs().*method)(&context, request, &response));
    }));
    return response;
  }

  Connection connection_;
};

}  // namespace

LocalTensor MakeLocalTensor(v1::TensorRef ref, absl::Span<const char> bytes) {
  ref.set_sha256(DigestOf(bytes));
  return {.ref = std::move(ref), .bytes = bytes};
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const ClientOptions& options) {
  if (options.server.empty()) {
    return absl::InvalidArgumentError("server must be HOST:PORT, got nothing");
  }
  return std::make_unique<ClientImpl>(options);
}

}  // namespace attnprune::client
