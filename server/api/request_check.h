// The rules that requests about jobs and about runs share. Pure; callable from any thread.
#ifndef ATTNPRUNE_SERVER_API_REQUEST_CHECK_H_
#define ATTNPRUNE_SERVER_API_REQUEST_CHECK_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/run.pb.h"

namespace attnprune::api {

// The id in "jobs/{id}" and in "runs/{id}". INVALID_ARGUMENT naming `name`.
absl::StatusOr<std::string> ParseJobName(absl::string_view name);
absl::StatusOr<std::string> ParseRunName(absl::string_view name);
// Of either.
absl::StatusOr<std::string> ParseWatchedName(absl::string_view name);

std::string JobName(absl::string_view id);
std::string RunName(absl::string_view id);

// Up to 128 printable ASCII characters. INVALID_ARGUMENT naming `request_id`.
absl::Status CheckRequestId(absl::string_view request_id);

// Labels, priority and timeout. INVALID_ARGUMENT naming "job.labels" and its like.
absl::Status CheckCommon(const v1::Job& job);
absl::Status CheckCommon(const v1::Run& run);

// Of a filter: as of a job. INVALID_ARGUMENT naming `labels`.
absl::Status CheckFilterLabels(const google::protobuf::Map<std::string, std::string>& labels);

// Clears the output-only fields that a client may have sent.
void ClearOutput(v1::Job& job);
void ClearOutput(v1::Run& run);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_REQUEST_CHECK_H_
