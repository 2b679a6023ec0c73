// DownloadTensor.
#ifndef ATTNPRUNE_SERVER_GRPC_DOWNLOAD_REACTOR_H_
#define ATTNPRUNE_SERVER_GRPC_DOWNLOAD_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include "server/grpc/call_record.h"
#include "server/grpc/tensor_backend.h"

namespace attnprune::rpc {

// One call, which owns itself. request: a DownloadTensorRequest as it came; what is sent are
// DownloadMessages.
grpc::ServerWriteReactor<grpc::ByteBuffer>* NewDownload(TensorBackend* backend,
                                                        grpc::CallbackServerContext* context,
                                                        CallRecord record,
                                                        const grpc::ByteBuffer& request);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_DOWNLOAD_REACTOR_H_
