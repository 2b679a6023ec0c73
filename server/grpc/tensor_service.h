// TensorService over api::TensorApi: gRPC's callback API for the streams, a thread pool for the
// files.
#ifndef ATTNPRUNE_SERVER_GRPC_TENSOR_SERVICE_H_
#define ATTNPRUNE_SERVER_GRPC_TENSOR_SERVICE_H_

#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "server/access/gate.h"
#include "server/api/tensor_api.h"
#include "server/api/upload_pace.h"
#include "server/grpc/call_record.h"
#include "server/observe/instruments.h"

namespace grpc {
class Service;
}

namespace attnprune::rpc {

class Connections;

struct TensorServiceOptions {
  int64_t max_chunk_bytes = int64_t{2} << 20;       // of one message of an upload
  int64_t download_chunk_bytes = int64_t{1} << 20;  // of one message of a download
  int download_chunks = 32;  // of all downloads that are on their way; others wait for them
  absl::Duration upload_stall = absl::Minutes(2);  // one that no message comes of for so long ends
  absl::Duration download_stall = absl::Minutes(1);  // a reader that takes none for so long is left
  int io_threads = 2;  // that read, write and hash; streams share them chunk by chunk
  TransferMetrics* metrics = nullptr;  // may be null; must outlive the service
  RpcListener on_call;                 // told of each call's end; may be empty
  api::UploadPace* pace = nullptr;     // may be null: no limit; must outlive the service
  Connections* connections = nullptr;  // told of who is let in; may be null; must outlive it
};

// An upload holds at most three of its chunks in memory (arriving, waiting, being hashed), a
// download two of its own while one of its messages is on its way, whatever the tensor's size and
// however slow the reader; a download whose reader takes nothing for download_stall is cancelled,
// and so is an upload that nothing comes of for upload_stall: it can be resumed.
// What is passed must outlive the service. Destroy the service after its server was shut down: it
// waits for its streams to end.
std::unique_ptr<grpc::Service> NewTensorService(const TensorServiceOptions& options,
                                                const access::Gate* gate,
                                                const api::TensorApi* tensors);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_TENSOR_SERVICE_H_
