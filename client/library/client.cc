#include "client/library/client.h"

#include <utility>

#include "client/library/connection.h"
#include "client/library/security.h"
#include "core/base/status_macros.h"
#include "core/io/sha256.h"

namespace attnprune::client {
namespace {

using Jobs = v1::PruneService::Stub;

// HealthCheckResponse{status: SERVING}.
constexpr char kServing[] = {8, 1};

// What a lost first try has deleted counts as deleted.
template <typename Request>
absl::Status Delete(Connection& connection,
                    grpc::Status (Jobs::*method)(grpc::ClientContext*, const Request&,
                                                 google::protobuf::Empty*),
                    const Request& request) {
  return connection.Retry([&](grpc::ClientContext& context, int attempt) {
    google::protobuf::Empty response;
    absl::Status status = FromGrpc((connection.jobs().*method)(&context, request, &response));
    if (attempt > 1 && absl::IsNotFound(status)) return absl::OkStatus();
    return status;
  });
}

}  // namespace

LocalTensor MakeLocalTensor(v1::TensorRef ref, absl::Span<const char> bytes) {
  ref.set_sha256(Sha256Of(bytes));
  return {.ref = std::move(ref), .bytes = bytes};
}

Client::Client(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const ClientOptions& options) {
  if (options.server.empty()) {
    return absl::InvalidArgumentError("server must be HOST:PORT, got nothing");
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(Security security, SecurityOf(options));
  return std::unique_ptr<Client>(
      new Client(std::make_unique<Connection>(options, std::move(security))));
}

absl::Status Client::CheckHealth() {
  return connection_->Retry([this](grpc::ClientContext& context, int) {
    std::string response;
    const grpc::Status status = connection_->AskHealth(context, &response);
    if (!status.ok()) return FromGrpc(status);
    if (response == std::string(kServing, sizeof(kServing))) return absl::OkStatus();
    return absl::UnavailableError("the server is not serving");
  });
}

absl::StatusOr<v1::ServerInfo> Client::GetServerInfo() {
  return connection_->Call(connection_->jobs(), &Jobs::GetServerInfo, v1::GetServerInfoRequest());
}

absl::StatusOr<v1::Job> Client::CreateJob(v1::CreateJobRequest request) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  return connection_->Call(connection_->jobs(), &Jobs::CreateJob, request);
}

absl::StatusOr<v1::Job> Client::GetJob(const std::string& name) {
  v1::GetJobRequest request;
  request.set_name(name);
  return connection_->Call(connection_->jobs(), &Jobs::GetJob, request);
}

absl::StatusOr<v1::ListJobsResponse> Client::ListJobs(const v1::ListJobsRequest& request) {
  return connection_->Call(connection_->jobs(), &Jobs::ListJobs, request);
}

absl::StatusOr<v1::Job> Client::CancelJob(const std::string& name) {
  v1::CancelJobRequest request;
  request.set_name(name);
  return connection_->Call(connection_->jobs(), &Jobs::CancelJob, request);
}

absl::Status Client::DeleteJob(const std::string& name) {
  v1::DeleteJobRequest request;
  request.set_name(name);
  return Delete(*connection_, &Jobs::DeleteJob, request);
}

absl::StatusOr<v1::Run> Client::CreateRun(v1::CreateRunRequest request) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  return connection_->Call(connection_->jobs(), &Jobs::CreateRun, request);
}

absl::StatusOr<v1::Run> Client::GetRun(const std::string& name) {
  v1::GetRunRequest request;
  request.set_name(name);
  return connection_->Call(connection_->jobs(), &Jobs::GetRun, request);
}

absl::StatusOr<v1::ListRunsResponse> Client::ListRuns(const v1::ListRunsRequest& request) {
  return connection_->Call(connection_->jobs(), &Jobs::ListRuns, request);
}

absl::StatusOr<v1::Run> Client::CancelRun(const std::string& name) {
  v1::CancelRunRequest request;
  request.set_name(name);
  return connection_->Call(connection_->jobs(), &Jobs::CancelRun, request);
}

absl::Status Client::DeleteRun(const std::string& name) {
  v1::DeleteRunRequest request;
  request.set_name(name);
  return Delete(*connection_, &Jobs::DeleteRun, request);
}

absl::StatusOr<v1::Run> Client::ResumeRun(const std::string& name) {
  v1::ResumeRunRequest request;
  request.set_name(name);
  v1::Run resumed;
  bool may_be_done = false;
  const absl::Status status = connection_->Retry([&](grpc::ClientContext& context, int attempt) {
    may_be_done = attempt > 1;
    return FromGrpc(connection_->jobs().ResumeRun(&context, request, &resumed));
  });
  if (status.ok()) return resumed;
  if (!may_be_done || !absl::IsFailedPrecondition(status)) return status;
  absl::StatusOr<v1::Run> run = GetRun(name);
  const bool goes_on = run.ok() && (run->state() == v1::QUEUED || run->state() == v1::RUNNING);
  return goes_on ? std::move(run) : status;
}

absl::StatusOr<v1::ListTensorsResponse> Client::ListTensors(const v1::ListTensorsRequest& request) {
  return connection_->Call(connection_->tensors(), &v1::TensorService::Stub::ListTensors, request);
}

}  // namespace attnprune::client
