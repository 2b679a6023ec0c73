#include "tests/server/grpc/access_world.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/io/sha256.h"
#include "server/access/tokens.h"
#include "server/grpc/tensor_service.h"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/support/value_or_die.h"

namespace attnprune::rpc {

namespace {

using testing::ValueOrDie;

constexpr absl::Duration kHeartbeat = absl::Milliseconds(100);

}  // namespace

AccessWorld::AccessWorld() {
  for (const auto& [who, tenant, role] :
       {std::tuple("mine-reader", "mine", access::Role::kReader),
        std::tuple("mine-submitter", "mine", access::Role::kSubmitter),
        std::tuple("other-reader", "other", access::Role::kReader),
        std::tuple("other-submitter", "other", access::Role::kSubmitter),
        std::tuple("admin", "ops", access::Role::kAdmin)}) {
    tokens_[who] = ValueOrDie(access::NewToken());
    lines_[who] = ValueOrDie(access::TokenLine(access::HashOfToken(tokens_[who]),
                                               {.tenant = tenant, .role = role, .name = who}));
  }
  tokens_["wrong"] = ValueOrDie(access::NewToken());
  WriteTokens();
  gate_ = ValueOrDie(access::Gate::Open({.token_file = folder_.path() + "/tokens"}));
  const auto on_call = [this](const FinishedRpc& call) {
    if (on_call_end_) on_call_end_(call);
    const MutexLock lock(&mutex_);
    calls_.push_back(call);
  };
  PruneServiceOptions prune;
  prune.on_call = on_call;
  prune.heartbeat = kHeartbeat;
  prune_ = NewPruneService(prune, gate_.get(), &backend_.api(), &backend_.runs(), &backend_.hub(),
                           &backend_.outlook());
  TensorServiceOptions tensors;
  tensors.on_call = on_call;
  tensor_ = NewTensorService(tensors, gate_.get(), &backend_.tensor_api());
  host_ =
      ValueOrDie(GrpcHost::Start({.listen = "127.0.0.1:0"}, {prune_->service(), tensor_.get()}));
  web::WebOptions web;
  web.http.listen = "127.0.0.1:0";
  web.heartbeat = kHeartbeat;
  web_ = ValueOrDie(
      web::WebHost::Start(web, {.gate = gate_.get(),
                                .api = &backend_.api(),
                                .runs = &backend_.runs(),
                                .hub = &backend_.hub(),
                                .tensors = &backend_.tensors(),
                                .tensor_api = &backend_.tensor_api(),
                                .metrics = &metrics_,
                                .metrics_text = [] { return std::string("figures 1\n"); }}));
  channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", host_->port()),
                                 grpc::InsecureChannelCredentials());
  prune_stub_ = v1::PruneService::NewStub(channel_);
  tensor_stub_ = v1::TensorService::NewStub(channel_);
}

AccessWorld::~AccessWorld() {
  prune_->Drain();
  web_.reset();
  host_.reset();
}

void AccessWorld::WriteTokens() {
  const std::string path = folder_.path() + "/tokens";
  std::ofstream file(path, std::ios::trunc);
  for (const auto& [who, line] : lines_) file << line;
  file.close();
  chmod(path.c_str(), 0600);
}

void AccessWorld::Revoke(const std::string& who) {
  lines_.erase(who);
  WriteTokens();
}

std::string AccessWorld::TokenOf(const std::string& who) const {
  return who.empty() ? "" : tokens_.at(who);
}

std::string AccessWorld::AddJob(const std::string& tenant, JobKind kind) {
  NewJob job;
  job.tenant = tenant;
  job.kind = kind;
  job.spec =
      kind == JobKind::kRun ? v1::Run().SerializeAsString() : api::LayerJob().SerializeAsString();
  return NameOf(ValueOrDie(jobs().Create(job)).job.id);
}

std::string AccessWorld::AddEnded(const std::string& tenant, JobKind kind) {
  const std::string name = AddJob(tenant, kind);
  EXPECT_TRUE(jobs().RequestCancel(name.substr(5)).ok());
  return name;
}

std::unique_ptr<grpc::ClientContext> AccessWorld::Context(const std::string& who) const {
  auto context = std::make_unique<grpc::ClientContext>();
  if (!who.empty()) context->AddMetadata("authorization", "Bearer " + TokenOf(who));
  return context;
}

grpc::Status AccessWorld::Watch(const std::string& who, const std::string& name) {
  v1::WatchJobRequest request;
  request.set_name(name);
  request.set_replay_only(true);
  const auto context = Context(who);
  const auto stream = prune().WatchJob(context.get(), request);
  v1::JobEvent event;
  while (stream->Read(&event)) {
  }
  return stream->Finish();
}

grpc::Status AccessWorld::Upload(const std::string& who, const std::string& bytes,
                                 v1::UploadTensorResponse* response) {
  v1::UploadTensorResponse ignored;
  const auto context = Context(who);
  const auto stream =
      tensors().UploadTensor(context.get(), response == nullptr ? &ignored : response);
  v1::UploadTensorRequest message;
  v1::UploadHeader& header = *message.mutable_header();
  header.set_sha256(Sha256Of(bytes));
  header.set_upload_id(header.sha256());
  header.set_size_bytes(static_cast<int64_t>(bytes.size()));
  header.set_dtype(v1::BITMASK);
  stream->Write(message);
  message.set_data(bytes);
  stream->Write(message);  // false when the tensor is there already
  stream->WritesDone();
  return stream->Finish();
}

grpc::Status AccessWorld::Download(const std::string& who, const std::string& sha256,
                                   std::string* bytes) {
  v1::DownloadTensorRequest request;
  request.set_sha256(sha256);
  const auto context = Context(who);
  const auto stream = tensors().DownloadTensor(context.get(), request);
  v1::DownloadTensorResponse response;
  while (stream->Read(&response)) {
    if (bytes != nullptr) bytes->append(response.data());
  }
  return stream->Finish();
}

std::vector<std::string> AccessWorld::Missing(const std::string& who,
                                              const std::vector<std::string>& digests) {
  v1::FindMissingTensorsRequest request;
  request.mutable_sha256()->Add(digests.begin(), digests.end());
  v1::FindMissingTensorsResponse response;
  const grpc::Status status =
      Call(tensors(), &v1::TensorService::Stub::FindMissingTensors, who, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return {response.missing().begin(), response.missing().end()};
}

http::Received AccessWorld::Ask(const std::string& who, const std::string& verb,
                                const std::string& target, const std::string& headers,
                                const std::string& body) {
  const std::string bearer =
      who.empty() ? "" : absl::StrCat("Authorization: Bearer ", TokenOf(who), "\r\n");
  return http::HttpClient(http_port()).Ask(verb, target, absl::StrCat(bearer, headers), body);
}

}  // namespace attnprune::rpc
