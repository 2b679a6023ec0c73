// What a server's error says beyond its code: the standard details of google.rpc, kept as payloads
// of absl::Status under their type URLs, and the field at fault as core/base/field_error.h keeps
// it.
#ifndef ATTNPRUNE_CLIENT_LIBRARY_STATUS_DETAILS_H_
#define ATTNPRUNE_CLIENT_LIBRARY_STATUS_DETAILS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace grpc {
class Status;
}

namespace attnprune::client {

// Pure. Code and message stay; details that cannot be read are left out. A code that Abseil does
// not know becomes UNKNOWN.
absl::Status FromGrpc(const grpc::Status& status);

// RetryInfo: when to come back.
absl::optional<absl::Duration> RetryDelay(const absl::Status& status);
// PreconditionFailure of type TENSOR_MISSING: digests to upload. The server names the first ones.
// For programs of the library that upload by themselves.
std::vector<std::string> MissingTensors(const absl::Status& status);
// ErrorInfo's "oldest_sequence": where a job's history begins now.
absl::optional<int64_t> OldestSequence(const absl::Status& status);

// The call's id in the server's log; empty: unknown, or the server did not see the call.
std::string RequestIdOf(const absl::Status& status);
// `status` (not OK) with it, if it is one (IsRequestId).
absl::Status WithRequestId(absl::Status status, const std::string& request_id);

// `status` (not OK) with another message and the same details.
absl::Status WithMessage(const absl::Status& status, absl::string_view message);

// Trying again does not mend it.
absl::Status MarkForGood(absl::Status status);
bool IsForGood(const absl::Status& status);

// For people: "message (RESOURCE_EXHAUSTED; try again in 5s; request 7f3c)".
std::string Explain(const absl::Status& status);

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_STATUS_DETAILS_H_
