// What the API's addresses answer: parses, calls api::JobApi, makes JSON.
#ifndef ATTNPRUNE_SERVER_WEB_JOB_ROUTES_H_
#define ATTNPRUNE_SERVER_WEB_JOB_ROUTES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attnprune/v1/prune_service.pb.h"
#include "server/access/caller.h"
#include "server/api/job_api.h"
#include "server/api/run_api.h"
#include "server/blobs/blob_store.h"
#include "server/http/message.h"
#include "server/http/route.h"
#include "server/queue/job_record.h"

namespace attnprune::web {

// ?pageSize=50&pageToken=…&states=RUNNING&states=QUEUED&labels.team=a. Names may be in snake_case
// too. INVALID_ARGUMENT names the parameter.
absl::StatusOr<v1::ListJobsRequest> ParseListJobs(const http::Pairs& query);
absl::StatusOr<v1::ListRunsRequest> ParseListRuns(const http::Pairs& query);

// The event after which a stream goes on: the header Last-Event-ID, or without it
// ?after_sequence=17, or without both 0. INVALID_ARGUMENT.
absl::StatusOr<int64_t> ParseAfter(const http::Request& request);

// What the answer tells of the call, for logs.
struct CallTold {
  std::string job;             // "jobs/x" that it made
  bool validate_only = false;  // nothing changes
};

// Answers kServer, kJobs, kCreateJob, kJob, kDeleteJob, kCancel and kDensity. Callable from any
// thread; may wait for the disk. Whether the caller's role allows the route is checked before.
// origin: of a job that is made.
absl::StatusOr<http::Response> AnswerJobRoute(const access::Caller& caller, const api::JobApi& api,
                                              const BlobStore& tensors,
                                              const http::RouteMatch& match,
                                              const http::Request& request, const JobOrigin& origin,
                                              CallTold* told);

// The same of kRuns, kCreateRun, kRun, kDeleteRun, kCancelRun and kResumeRun.
absl::StatusOr<http::Response> AnswerRunRoute(const access::Caller& caller, const api::RunApi& api,
                                              const http::RouteMatch& match,
                                              const http::Request& request, const JobOrigin& origin,
                                              CallTold* told);
bool IsRunRoute(http::Route route);

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_JOB_ROUTES_H_
