#include "tests/server/grpc/remote_tensors.h"

#include <grpcpp/grpcpp.h>

#include <string>

#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "core/io/sha256.h"
#include "gtest/gtest.h"
#include "tests/server/api/tensor_bytes.h"

namespace attnprune::rpc {
namespace {

void Upload(const std::string& bytes, v1::TensorRef& tensor, v1::TensorService::Stub& stub) {
  tensor.set_sha256(Sha256Of(bytes));
  grpc::ClientContext context;
  v1::UploadTensorResponse response;
  const auto stream = stub.UploadTensor(&context, &response);
  v1::UploadTensorRequest message;
  v1::UploadHeader& header = *message.mutable_header();
  header.set_upload_id(tensor.sha256());
  header.set_sha256(tensor.sha256());
  header.set_size_bytes(static_cast<int64_t>(bytes.size()));
  header.set_dtype(tensor.dtype());
  stream->Write(message);
  message.set_data(bytes);
  stream->Write(message);  // false when the tensor is there already
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace

void UploadTensors(v1::Job& job, const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = v1::TensorService::NewStub(channel);
  int seed = 0;
  for (v1::TensorRef* const tensor : api::TensorsOf(job)) {
    Upload(api::MakeBytes(*tensor, seed++), *tensor, *stub);
  }
}

}  // namespace attnprune::rpc
