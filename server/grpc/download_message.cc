#include "server/grpc/download_message.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpc/slice.h>
#include <grpcpp/support/slice.h>

#include <array>
#include <cstring>

#include "attnprune/v1/tensor_service.pb.h"

namespace attnprune::rpc {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedOutputStream;

constexpr size_t kMostHead = 32;  // two tags and two numbers

uint8_t* WriteNumber(int field, WireFormatLite::WireType type, int64_t number, uint8_t* out) {
  out = CodedOutputStream::WriteVarint32ToArray(WireFormatLite::MakeTag(field, type), out);
  return CodedOutputStream::WriteVarint64ToArray(static_cast<uint64_t>(number), out);
}

}  // namespace

DownloadMessage NewDownloadMessage(int64_t size_bytes, int64_t data_bytes) {
  using Response = v1::DownloadTensorResponse;
  std::array<uint8_t, kMostHead> head;
  uint8_t* end = head.data();
  if (size_bytes > 0) {
    end = WriteNumber(Response::kSizeBytesFieldNumber, WireFormatLite::WIRETYPE_VARINT, size_bytes,
                      end);
  }
  end = WriteNumber(Response::kDataFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED,
                    data_bytes, end);
  const auto head_bytes = static_cast<size_t>(end - head.data());
  const auto size = static_cast<size_t>(data_bytes);
  // A small one of grpc_slice_malloc has its bytes inside itself, and they move with it.
  grpc_slice slice = grpc_slice_malloc_large(head_bytes + size);
  std::memcpy(GRPC_SLICE_START_PTR(slice), head.data(), head_bytes);
  char* const data = reinterpret_cast<char*>(GRPC_SLICE_START_PTR(slice)) + head_bytes;
  const grpc::Slice owned(slice, grpc::Slice::STEAL_REF);
  return {.message = grpc::ByteBuffer(&owned, 1), .data = absl::MakeSpan(data, size)};
}

}  // namespace attnprune::rpc
