// What comes in the bodies of requests: a tensor, written as it arrives, or JSON of some size.
#ifndef ATTNPRUNE_SERVER_WEB_UPLOAD_CALL_H_
#define ATTNPRUNE_SERVER_WEB_UPLOAD_CALL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "attnprune/v1/tensor_service.pb.h"
#include "server/access/caller.h"
#include "server/api/tensor_api.h"
#include "server/api/upload_pace.h"
#include "server/http/io_loop.h"
#include "server/http/message.h"
#include "server/observe/instruments.h"

namespace boost::asio {
class thread_pool;
}

namespace attnprune::web {

// What uploads use; everything outlives them.
struct UploadContext {
  const api::TensorApi* tensors;
  http::IoLoop* loop;            // waits
  boost::asio::thread_pool* io;  // writes and hashes
  api::UploadPace* pace;         // may be null: no limit
  TransferMetrics* metrics;      // may be null
};

// Takes the body as the tensor's bytes from `offset` on, by TensorApi's rules, with two pieces of
// it in memory, and calls `done` once, from any thread: errors are those of UploadTensor;
// INVALID_ARGUMENT (body): it broke off. What came counts either way, and the upload can be
// resumed.
void StartUpload(const UploadContext& context, const access::Caller& caller, const UploadSpec& spec,
                 int64_t offset, std::shared_ptr<http::BodyReader> body,
                 std::function<void(const absl::StatusOr<v1::UploadTensorResponse>&)> done);

// Reads a body of `limit` bytes at most and calls `done` once, on the loop. OUT_OF_RANGE: it has
// more; INVALID_ARGUMENT (body): it broke off.
void ReadBody(const std::shared_ptr<http::BodyReader>& body, size_t limit,
              const std::function<void(absl::StatusOr<std::string>)>& done);

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_UPLOAD_CALL_H_
