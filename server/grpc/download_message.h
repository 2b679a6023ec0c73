// A DownloadTensorResponse as it goes over the wire, made around its data.
#ifndef ATTNPRUNE_SERVER_GRPC_DOWNLOAD_MESSAGE_H_
#define ATTNPRUNE_SERVER_GRPC_DOWNLOAD_MESSAGE_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>

#include "absl/types/span.h"

namespace attnprune::rpc {

// `data` is in `message`, to be filled before it is sent: protobuf would copy it.
struct DownloadMessage {
  grpc::ByteBuffer message;
  absl::Span<char> data;
};

// With so many bytes of data, at least 1. size_bytes: the field; 0: without it.
DownloadMessage NewDownloadMessage(int64_t size_bytes, int64_t data_bytes);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_DOWNLOAD_MESSAGE_H_
