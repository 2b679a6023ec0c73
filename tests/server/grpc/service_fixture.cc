#include "tests/server/grpc/service_fixture.h"

#include "gtest/gtest.h"
#include "tests/support/value_or_die.h"

namespace attnprune::rpc {
namespace {

using testing::ValueOrDie;

template <typename Detail>
Detail DetailOf(const grpc::Status& status, const std::string& type) {
  v1::RpcStatus decoded;
  EXPECT_TRUE(decoded.ParseFromString(status.error_details()));
  EXPECT_EQ(decoded.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(decoded.message(), status.error_message());
  Detail detail;
  for (const google::protobuf::Any& any : decoded.details()) {
    if (any.type_url() != "type.googleapis.com/google.rpc." + type) continue;
    EXPECT_TRUE(detail.ParseFromString(any.value()));
    return detail;
  }
  ADD_FAILURE() << "no " << type << " in " << status.error_message();
  return detail;
}

}  // namespace

Service::Service(const ServiceOptions& options) : backend_(options.backend) {
  PruneServiceOptions prune;
  prune.heartbeat = options.heartbeat;
  service_ = NewPruneService(prune, gate_.get(), &backend_.api(), &backend_.runs(), &backend_.hub(),
                             &backend_.outlook());
  host_ = ValueOrDie(
      GrpcHost::Start({.listen = "127.0.0.1:0", .tls = options.tls}, {service_->service()}));
  // Windows stay at 64 KiB, so that a client that reads nothing always holds back the same.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  channel_ = grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(host_->port()),
                                       options.channel, arguments);
  stub_ = v1::PruneService::NewStub(channel_);
}

Service::~Service() {
  service_->Drain();
  host_.reset();
  service_.reset();
}

v1::Job Service::Create(const v1::Job& job) {
  v1::CreateJobRequest request;
  *request.mutable_job() = job;
  const Answer<v1::Job> answer = rpc::Create(*this, request);
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  return answer.response;
}

Answer<v1::Job> Create(Service& service, const v1::CreateJobRequest& request) {
  grpc::ClientContext context;
  Answer<v1::Job> answer;
  answer.status = service.stub().CreateJob(&context, request, &answer.response);
  return answer;
}

Answer<v1::Job> Get(Service& service, const std::string& name) {
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_name(name);
  Answer<v1::Job> answer;
  answer.status = service.stub().GetJob(&context, request, &answer.response);
  return answer;
}

Answer<v1::Job> Cancel(Service& service, const std::string& name) {
  grpc::ClientContext context;
  v1::CancelJobRequest request;
  request.set_name(name);
  Answer<v1::Job> answer;
  answer.status = service.stub().CancelJob(&context, request, &answer.response);
  return answer;
}

grpc::Status Delete(Service& service, const std::string& name) {
  grpc::ClientContext context;
  v1::DeleteJobRequest request;
  request.set_name(name);
  google::protobuf::Empty response;
  return service.stub().DeleteJob(&context, request, &response);
}

Answer<v1::ListJobsResponse> List(Service& service, const v1::ListJobsRequest& request) {
  grpc::ClientContext context;
  Answer<v1::ListJobsResponse> answer;
  answer.status = service.stub().ListJobs(&context, request, &answer.response);
  return answer;
}

v1::BadRequest BadRequestOf(const grpc::Status& status) {
  return DetailOf<v1::BadRequest>(status, "BadRequest");
}
v1::RetryInfo RetryInfoOf(const grpc::Status& status) {
  return DetailOf<v1::RetryInfo>(status, "RetryInfo");
}
v1::ErrorInfo ErrorInfoOf(const grpc::Status& status) {
  return DetailOf<v1::ErrorInfo>(status, "ErrorInfo");
}
v1::PreconditionFailure PreconditionFailureOf(const grpc::Status& status) {
  return DetailOf<v1::PreconditionFailure>(status, "PreconditionFailure");
}

std::string FieldOf(const grpc::Status& status) {
  if (status.error_details().empty()) return "";
  const v1::BadRequest detail = BadRequestOf(status);
  EXPECT_EQ(detail.field_violations_size(), 1);
  return detail.field_violations_size() == 1 ? detail.field_violations(0).field() : "";
}

}  // namespace attnprune::rpc
