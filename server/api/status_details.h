// The standard details (google.rpc) that an error may carry. Pure; callable from any thread. No
// gRPC.
#ifndef ATTNPRUNE_SERVER_API_STATUS_DETAILS_H_
#define ATTNPRUNE_SERVER_API_STATUS_DETAILS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace attnprune::v1 {
class RpcStatus;
}

namespace attnprune::api {

// Each returns `status` (not OK) with one more detail; details of other kinds stay.

// RetryInfo: come back after `delay`.
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);
// ErrorInfo of domain "attnprune": a reason that programs can read, UPPER_SNAKE_CASE.
absl::Status WithReason(absl::Status status, absl::string_view reason,
                        const std::map<std::string, std::string>& metadata = {});
// PreconditionFailure: one violation of `type` a subject; of many, the first 30.
absl::Status WithPreconditions(absl::Status status, absl::string_view type,
                               const std::vector<std::string>& subjects);

// As a google.rpc.Status: code, message, the details above and, for a field at fault
// (core/base/field_error.h), BadRequest; for UNAVAILABLE RetryInfo. Long texts are cut.
v1::RpcStatus ToRpcStatus(const absl::Status& status);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_STATUS_DETAILS_H_
