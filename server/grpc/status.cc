#include "server/grpc/status.h"

#include <grpcpp/support/status.h>

#include "attnprune/v1/errors.pb.h"
#include "server/api/status_details.h"

namespace attnprune::rpc {
namespace {

// gRPC's codes and Abseil's are the same numbers; a new one on either side fails here.
constexpr grpc::StatusCode ToGrpcCode(absl::StatusCode code) {
  return static_cast<grpc::StatusCode>(code);
}
#define ATTNPRUNE_SAME_CODE(absl_name, grpc_name) \
  static_assert(ToGrpcCode(absl::StatusCode::absl_name) == grpc::StatusCode::grpc_name)
ATTNPRUNE_SAME_CODE(kOk, OK);
ATTNPRUNE_SAME_CODE(kCancelled, CANCELLED);
ATTNPRUNE_SAME_CODE(kUnknown, UNKNOWN);
ATTNPRUNE_SAME_CODE(kInvalidArgument, INVALID_ARGUMENT);
ATTNPRUNE_SAME_CODE(kDeadlineExceeded, DEADLINE_EXCEEDED);
ATTNPRUNE_SAME_CODE(kNotFound, NOT_FOUND);
ATTNPRUNE_SAME_CODE(kAlreadyExists, ALREADY_EXISTS);
ATTNPRUNE_SAME_CODE(kPermissionDenied, PERMISSION_DENIED);
ATTNPRUNE_SAME_CODE(kResourceExhausted, RESOURCE_EXHAUSTED);
ATTNPRUNE_SAME_CODE(kFailedPrecondition, FAILED_PRECONDITION);
ATTNPRUNE_SAME_CODE(kAborted, ABORTED);
ATTNPRUNE_SAME_CODE(kOutOfRange, OUT_OF_RANGE);
ATTNPRUNE_SAME_CODE(kUnimplemented, UNIMPLEMENTED);
ATTNPRUNE_SAME_CODE(kInternal, INTERNAL);
ATTNPRUNE_SAME_CODE(kUnavailable, UNAVAILABLE);
ATTNPRUNE_SAME_CODE(kDataLoss, DATA_LOSS);
ATTNPRUNE_SAME_CODE(kUnauthenticated, UNAUTHENTICATED);
#undef ATTNPRUNE_SAME_CODE

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const v1::RpcStatus wire = api::ToRpcStatus(status);
  return grpc::Status(ToGrpcCode(status.code()), wire.message(),
                      wire.details().empty() ? "" : wire.SerializeAsString());
}

}  // namespace attnprune::rpc
