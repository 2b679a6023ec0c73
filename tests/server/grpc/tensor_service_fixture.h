// TensorService by a real server and client in this process.
#ifndef ATTNPRUNE_TESTS_SERVER_GRPC_TENSOR_SERVICE_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_GRPC_TENSOR_SERVICE_FIXTURE_H_

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/types/span.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "server/grpc/tensor_service.h"
#include "tests/server/blobs/store_fixture.h"
#include "tests/server/grpc/service_fixture.h"

namespace attnprune::rpc {

inline constexpr int64_t kChunk = 1000;  // the largest that the server takes here

MATCHER_P2(IsRefusal, code, field, "") {
  *result_listener << arg.error_code() << ", field '" << FieldOf(arg)
                   << "': " << arg.error_message();
  return arg.error_code() == code && FieldOf(arg) == field;
}

inline v1::UploadHeader HeaderOf(const std::string& upload_id, const std::string& bytes,
                                 int64_t offset) {
  v1::UploadHeader header;
  header.set_upload_id(upload_id);
  header.set_sha256(Sha256Of(bytes));
  header.set_size_bytes(static_cast<int64_t>(bytes.size()));
  header.set_offset(offset);
  header.set_dtype(v1::BITMASK);
  return header;
}

// The client's side of one UploadTensor.
class UploadStream {
 public:
  explicit UploadStream(v1::TensorService::Stub* stub)
      : writer_(stub->UploadTensor(&context_, &response_)) {}

  void Send(const v1::UploadHeader& header) {
    v1::UploadTensorRequest request;
    *request.mutable_header() = header;
    writer_->Write(request);
  }
  bool Send(absl::Span<const char> data) {
    v1::UploadTensorRequest request;
    request.set_data(data.data(), data.size());
    const bool sent = writer_->Write(request);
    if (sent) bytes_sent_ += static_cast<int64_t>(data.size());
    return sent;
  }
  void SendNothing() { writer_->Write(v1::UploadTensorRequest()); }
  void SendInChunks(absl::Span<const char> data) {
    for (size_t at = 0; at < data.size(); at += kChunk) {
      if (!Send(data.subspan(at, kChunk))) return;
    }
  }
  grpc::Status Finish() {
    writer_->WritesDone();
    return writer_->Finish();
  }
  grpc::Status FinishWithoutSayingSo() { return writer_->Finish(); }
  void Break() {
    context_.TryCancel();
    writer_->Finish();
  }

  int64_t bytes_sent() const { return bytes_sent_; }
  const v1::UploadTensorResponse& response() const { return response_; }

 private:
  grpc::ClientContext context_;
  v1::UploadTensorResponse response_;
  std::unique_ptr<grpc::ClientWriter<v1::UploadTensorRequest>> writer_;
  int64_t bytes_sent_ = 0;
};

class TensorServiceTest : public StoreTest {
 protected:
  TensorServiceTest() { StartServer(); }
  ~TensorServiceTest() override { StopServer(); }

  void StartServer() { Serve({.max_chunk_bytes = kChunk, .download_chunk_bytes = 700}); }

  void Serve(const TensorServiceOptions& options) {
    tensors_ = std::make_unique<api::TensorApi>(store_.get(), nullptr);
    service_ = NewTensorService(options, gate_.get(), tensors_.get());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = v1::TensorService::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                           grpc::InsecureChannelCredentials()));
  }

  void StopServer() {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_ = nullptr;
    service_ = nullptr;
  }

  grpc::Status Upload(const v1::UploadHeader& header, absl::Span<const char> data) {
    UploadStream stream(stub_.get());
    stream.Send(header);
    stream.SendInChunks(data);
    return stream.Finish();
  }

  grpc::Status Query(const std::string& upload_id, int64_t* committed) {
    grpc::ClientContext context;
    v1::QueryUploadRequest request;
    request.set_upload_id(upload_id);
    v1::QueryUploadResponse response;
    const grpc::Status status = stub_->QueryUpload(&context, request, &response);
    *committed = response.committed_bytes();
    return status;
  }

  int64_t Query(const std::string& upload_id) {
    int64_t committed = -1;
    EXPECT_TRUE(Query(upload_id, &committed).ok());
    return committed;
  }

  void AwaitCommitted(const std::string& upload_id, int64_t bytes) {
    while (Query(upload_id) < bytes) std::this_thread::yield();
  }

  // A stream writes the upload: whoever is not turned away by it is by the offset.
  bool IsHeld(const std::string& upload_id) {
    const UploadSpec spec = SpecOf(upload_id, "of no tensor that is there");
    return absl::IsAborted(store_->StartUpload(spec, std::numeric_limits<int64_t>::max()).status());
  }

  // After a break, until the server has noticed it.
  void AwaitFree(const std::string& upload_id) {
    while (IsHeld(upload_id)) std::this_thread::yield();
  }

  grpc::Status Download(const std::string& sha256, int64_t offset, std::string* bytes) {
    grpc::ClientContext context;
    v1::DownloadTensorRequest request;
    request.set_sha256(sha256);
    request.set_offset(offset);
    const auto reader = stub_->DownloadTensor(&context, request);
    v1::DownloadTensorResponse response;
    while (reader->Read(&response)) bytes->append(response.data());
    return reader->Finish();
  }

  grpc::Status FindMissing(const std::vector<std::string>& digests,
                           v1::FindMissingTensorsResponse* response) {
    grpc::ClientContext context;
    v1::FindMissingTensorsRequest request;
    request.mutable_sha256()->Add(digests.begin(), digests.end());
    return stub_->FindMissingTensors(&context, request, response);
  }

  const std::string bytes_ = RandomBytes(20'500, 1);
  const std::string digest_ = Sha256Of(bytes_);

  std::unique_ptr<access::Gate> gate_ = *access::Gate::Open({});
  std::unique_ptr<api::TensorApi> tensors_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::TensorService::Stub> stub_;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_TESTS_SERVER_GRPC_TENSOR_SERVICE_FIXTURE_H_
