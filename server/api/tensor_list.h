// What ListTensors answers, from what the stores know without reading a tensor.
#ifndef ATTNPRUNE_SERVER_API_TENSOR_LIST_H_
#define ATTNPRUNE_SERVER_API_TENSOR_LIST_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/tensor_service.pb.h"
#include "google/protobuf/message.h"
#include "server/access/caller.h"
#include "server/blobs/blob_store.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// A tenant's sizes and times are told from its own notes and jobs alone: nothing in them depends on
// what others have stored. jobs: may be null where every caller is access::Everyone(); then nothing
// is used. Looks at 10,000 tensors at most, so that a page of unused ones may come short. Callable
// from any thread; waits for the stores. INVALID_ARGUMENT (page_size, page_token).
absl::StatusOr<v1::ListTensorsResponse> ListTensors(const access::Caller& caller,
                                                    const v1::ListTensorsRequest& request,
                                                    const BlobStore& tensors, JobStore* jobs);

// Calls `visit` with every TensorRef within the message and where it is: "calibration[0]". Pure.
void ForEachTensorRef(
    const google::protobuf::Message& message,
    absl::FunctionRef<void(const std::string& path, const v1::TensorRef& ref)> visit);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_TENSOR_LIST_H_
