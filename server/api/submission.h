// What creating and listing jobs and runs have in common.
#ifndef ATTNPRUNE_SERVER_API_SUBMISSION_H_
#define ATTNPRUNE_SERVER_API_SUBMISSION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/field_error.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/message.h"
#include "server/access/caller.h"
#include "server/api/request_check.h"
#include "server/api/tensor_api.h"
#include "server/execution/job_tensor.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// The same bytes for equal messages, maps included.
std::string DeterministicBytes(const google::protobuf::Message& message);
std::string DigestOf(const google::protobuf::Message& message);
absl::Duration ToDuration(const google::protobuf::Duration& duration);

// What the store needs of a checked job or run; its digest is that of the message as it is.
template <typename Message>
NewJob NewJobOf(const Message& checked, const std::string& request_id) {
  NewJob job;
  job.request_id = request_id;
  job.request_digest = DigestOf(checked);
  job.priority = checked.priority();
  job.timeout = ToDuration(checked.timeout());
  job.labels = {checked.labels().begin(), checked.labels().end()};
  return job;
}

std::vector<std::string> UniqueDigests(absl::Span<const JobTensor* const> tensors);

// Whether all are there for the caller, in their sizes; begins their grace anew.
// FAILED_PRECONDITION lists those that are missing; INVALID_ARGUMENT names the shape.
absl::Status CheckStored(const access::Caller& caller, absl::Span<const JobTensor* const> tensors,
                         const TensorApi& stored);

// Whether those that are there for the caller have their sizes, for a request that is only to be
// validated. Touches nothing. INVALID_ARGUMENT names the shape.
absl::Status CheckStoredSizes(const access::Caller& caller,
                              absl::Span<const JobTensor* const> tensors, const TensorApi& stored);

// INVALID_ARGUMENT naming `field`, reason JOB_TOO_LARGE. limit 0: none.
absl::Status CheckMemory(absl::string_view field, int64_t bytes, int64_t limit);

// INVALID_ARGUMENT naming "job.calibration[0].name" and its like. A rule of requests alone: what
// was stored before it came still runs.
absl::Status CheckTensorNames(absl::Span<const JobTensor* const> tensors);

// What is stored of a job or run, so that no answer about it is larger than a client's default
// limit. INVALID_ARGUMENT naming `field`.
absl::Status CheckStoredBytes(absl::string_view field, size_t bytes);

// JobStore::Create. RESOURCE_EXHAUSTED says when to come back.
absl::StatusOr<JobRecord> Store(const NewJob& job, JobStore* jobs, absl::Duration retry_after);

struct ListQuery {
  JobFilter filter;
  int page_size = 0;
  std::string page_token;
};

// INVALID_ARGUMENT naming `page_size`, `states` or `states[i]`.
absl::StatusOr<int> CheckPageSize(int page_size);
absl::Status CheckStateCount(int states);
absl::StatusOr<JobState> CheckState(int index, int state);

template <typename Request>
absl::StatusOr<ListQuery> ListQueryOf(const Request& request, JobKind kind) {
  ListQuery query;
  const absl::StatusOr<int> page_size = CheckPageSize(request.page_size());
  if (!page_size.ok()) return page_size.status();
  query.page_size = *page_size;
  absl::Status status = CheckFilterLabels(request.labels());
  status.Update(CheckStateCount(request.states_size()));
  if (!status.ok()) return status;
  query.page_token = request.page_token();
  query.filter.kind = kind;
  query.filter.labels = {request.labels().begin(), request.labels().end()};
  for (int i = 0; i < request.states_size(); ++i) {
    const absl::StatusOr<JobState> state = CheckState(i, request.states(i));
    if (!state.ok()) return state.status();
    query.filter.states.insert(*state);
  }
  return query;
}

inline constexpr size_t kMaxPageBytes = size_t{3} << 20;

// list(page_size), of fewer and fewer until the answer fits a client's default limit on messages.
template <typename List>
auto ListPages(const ListQuery& query, const List& list) -> decltype(list(1)) {
  int page_size = query.page_size;
  while (true) {
    auto response = list(page_size);
    if (!response.ok() || response->ByteSizeLong() <= kMaxPageBytes || page_size == 1) {
      return response;
    }
    page_size = (page_size + 1) / 2;
  }
}

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_SUBMISSION_H_
