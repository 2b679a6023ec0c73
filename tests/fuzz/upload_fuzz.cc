// Messages of UploadTensor, each behind its size in two bytes, to the service over loopback:
// refused as a client's fault, or a tensor that comes back as it was sent. A header without digest
// or size gets those of all data that follows, which no fuzzer would guess.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "core/io/sha256.h"
#include "server/access/gate.h"
#include "server/grpc/tensor_service.h"
#include "tests/fuzz/fuzz_backend.h"

namespace attnprune::fuzz {
namespace {

constexpr int kInputsBetweenCollections = 64;

class Uploads {
 public:
  Uploads()
      : service_(rpc::NewTensorService({.max_chunk_bytes = 4096}, gate_.get(),
                                       &SharedBackend().tensor_api())) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    // gRPC's channel within a process leaves a write waiting for ever where the call has ended.
    stub_ = v1::TensorService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }

  void Send(const std::vector<v1::UploadTensorRequest>& messages) {
    grpc::ClientContext context;
    v1::UploadTensorResponse response;
    const auto writer = stub_->UploadTensor(&context, &response);
    for (const v1::UploadTensorRequest& message : messages) {
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    if (status.ok()) {
      ExpectBytes(response);
    } else {
      ExpectClientsFault(status);
    }
    if (++inputs_ % kInputsBetweenCollections == 0 &&
        !tensors().Collect({}, absl::ZeroDuration()).ok()) {
      std::abort();
    }
  }

 private:
  static BlobStore& tensors() { return SharedBackend().tensors(); }

  static void ExpectClientsFault(const grpc::Status& status) {
    switch (status.error_code()) {
      case grpc::StatusCode::INVALID_ARGUMENT:
      case grpc::StatusCode::OUT_OF_RANGE:
      case grpc::StatusCode::ABORTED:
      case grpc::StatusCode::RESOURCE_EXHAUSTED:
        return;
      default:
        Find("not a client's fault", absl::UnknownError(status.error_message()));
    }
  }

  void ExpectBytes(const v1::UploadTensorResponse& uploaded) {
    grpc::ClientContext context;
    v1::DownloadTensorRequest request;
    request.set_sha256(uploaded.sha256());
    const auto reader = stub_->DownloadTensor(&context, request);
    v1::DownloadTensorResponse piece;
    Sha256 sha256;
    int64_t bytes = 0;
    while (reader->Read(&piece)) {
      sha256.Update(piece.data());
      bytes += static_cast<int64_t>(piece.data().size());
    }
    if (!reader->Finish().ok() || bytes != uploaded.size_bytes() ||
        sha256.Finish() != uploaded.sha256()) {
      Find("an uploaded tensor does not come back", absl::OkStatus());
    }
  }

  const std::unique_ptr<access::Gate> gate_ = *access::Gate::Open({});
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::TensorService::Stub> stub_;
  int inputs_ = 0;
};

std::vector<v1::UploadTensorRequest> MessagesOf(const uint8_t* data, size_t size) {
  std::vector<v1::UploadTensorRequest> messages;
  for (size_t at = 0; at + 2 <= size;) {
    const size_t said = data[at] | size_t{data[at + 1]} << 8, bytes = std::min(said, size - at - 2);
    v1::UploadTensorRequest& message = messages.emplace_back();
    if (!message.ParseFromArray(data + at + 2, static_cast<int>(bytes))) messages.pop_back();
    at += 2 + bytes;
  }
  return messages;
}

void FillHeaders(std::vector<v1::UploadTensorRequest>& messages) {
  std::string all;
  for (const v1::UploadTensorRequest& message : messages) all += message.data();
  for (v1::UploadTensorRequest& message : messages) {
    if (!message.has_header()) continue;
    v1::UploadHeader& header = *message.mutable_header();
    if (header.sha256().empty()) header.set_sha256(Sha256Of(all));
    if (header.size_bytes() == 0) header.set_size_bytes(static_cast<int64_t>(all.size()));
  }
}

}  // namespace
}  // namespace attnprune::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static attnprune::fuzz::Uploads uploads;
  std::vector<attnprune::v1::UploadTensorRequest> messages =
      attnprune::fuzz::MessagesOf(data, size);
  attnprune::fuzz::FillHeaders(messages);
  uploads.Send(messages);
  return 0;
}
