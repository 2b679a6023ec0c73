// The addresses of the HTTP port, as one table.
#ifndef ATTNPRUNE_SERVER_HTTP_ROUTE_H_
#define ATTNPRUNE_SERVER_HTTP_ROUTE_H_

#include <array>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/http/message.h"

namespace attnprune::http {

// What is answered at an address to a verb. The numbers index kRouteNames, and are what
// Answer::route says.
enum class Route {
  kOther = 0,  // no address of this server
  kPage,       // the page and its files
  kMetrics,
  kHealth,
  kOpenApi,
  kServer,
  kJobs,
  kCreateJob,
  kJob,
  kDeleteJob,
  kEvents,  // of jobs and of runs
  kCancel,
  kDensity,
  kJobFiles,
  kRuns,
  kCreateRun,
  kRun,
  kDeleteRun,
  kCancelRun,
  kResumeRun,
  kRunFiles,
  kTensors,
  kMissing,
  kTensor,
  kUpload,
  kQueryUpload,
  kSession,  // logs in (POST), says who is (GET)
  kEndSession,
};
inline constexpr std::array<absl::string_view, 28> kRouteNames = {
    "other",      "page",         "metrics",   "healthz",    "openapi", "server",
    "jobs",       "create_job",   "job",       "delete_job", "events",  "cancel",
    "density",    "job_files",    "runs",      "create_run", "run",     "delete_run",
    "cancel_run", "resume_run",   "run_files", "tensors",    "missing", "tensor",
    "upload",     "query_upload", "session",   "end_session"};

struct Address {
  Verb verb;  // kGet: HEAD too, but for events
  // "/api/v1/jobs/{id}:cancel": what is in braces stands for one or more characters but '/'.
  absl::string_view pattern;
  Route route;
  // The RPC that does the same, where that changes something or takes a tensor; else empty.
  absl::string_view action = {};
};

// All but the page's files.
absl::Span<const Address> Addresses();

struct RouteMatch {
  Route route = Route::kOther;
  std::string id, index;   // where the address has them, not checked
  bool takes_verb = true;  // else the route is that of another verb at this address
  absl::string_view action = {};
};

// A path that is none of the table's and not below /api/ is kPage, whether or not there is such a
// file. Pure.
RouteMatch MatchRoute(Verb verb, absl::string_view path);

// What a path takes, "GET, HEAD, POST", of the header Allow. Pure.
std::string AllowedVerbs(absl::string_view path);

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_ROUTE_H_
