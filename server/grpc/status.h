// The one place that turns absl::Status into what a gRPC client sees. Pure; callable from any
// thread.
#ifndef ATTNPRUNE_SERVER_GRPC_STATUS_H_
#define ATTNPRUNE_SERVER_GRPC_STATUS_H_

#include "absl/status/status.h"

namespace grpc {
class Status;
}

namespace attnprune::rpc {

// Code, message and, in grpc-status-details-bin, a google.rpc.Status with the details of
// status_details.h and, for a field at fault (core/base/field_error.h), BadRequest. Long texts are
// cut, so that all of it fits the 8 KiB of metadata that clients take.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_STATUS_H_
