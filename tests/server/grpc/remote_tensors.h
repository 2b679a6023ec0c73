// Uploads what a test's job needs through the API.
#ifndef ATTNPRUNE_TESTS_SERVER_GRPC_REMOTE_TENSORS_H_
#define ATTNPRUNE_TESTS_SERVER_GRPC_REMOTE_TENSORS_H_

#include <memory>

#include "attnprune/v1/job.pb.h"

namespace grpc {
class Channel;
}

namespace attnprune::rpc {

// Makes bytes for every tensor of `job`, uploads them and sets the digests.
void UploadTensors(v1::Job& job, const std::shared_ptr<grpc::Channel>& channel);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_TESTS_SERVER_GRPC_REMOTE_TENSORS_H_
