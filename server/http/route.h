// The addresses of the HTTP port, as one table.
#ifndef ATTNPRUNE_SERVER_HTTP_ROUTE_H_
#define ATTNPRUNE_SERVER_HTTP_ROUTE_H_

#include <array>
#include <string>

#include "absl/strings/string_view.h"

namespace attnprune::http {

// The numbers index kRouteNames, and are what Answer::route says.
enum class Route {
  kOther = 0,   // no address of this server
  kPage,        // / and the page's files
  kMetrics,     // /metrics
  kHealth,      // /healthz
  kServer,      // /api/v1/server
  kJobs,        // /api/v1/jobs
  kJob,         // /api/v1/jobs/{id}
  kEvents,      // /api/v1/jobs/{id}/events
  kCancel,      // /api/v1/jobs/{id}:cancel
  kDensity,     // /api/v1/jobs/{id}/results/{index}/density
  kRuns,        // /api/v1/runs
  kRun,         // /api/v1/runs/{id}; its events: kEvents
  kCancelRun,   // /api/v1/runs/{id}:cancel
  kResumeRun,   // /api/v1/runs/{id}:resume
  kSession,     // /api/v1/session: logs in (POST), says who is (GET)
  kEndSession,  // /api/v1/session:end
};
inline constexpr std::array<absl::string_view, 16> kRouteNames = {
    "other",      "page",       "metrics", "healthz",    "server", "jobs",
    "job",        "events",     "cancel",  "density",    "runs",   "run",
    "cancel_run", "resume_run", "session", "end_session"};

struct RouteMatch {
  Route route = Route::kOther;
  std::string id, index;  // where the address has them, not checked
};

// A path that is none of the others and not below /api/ is kPage, whether or not there is such a
// file. Pure.
RouteMatch MatchRoute(absl::string_view path);

// The RPC that changes what a POST to this address changes, "CancelJob"; empty: nothing. Pure.
absl::string_view ActionOf(Route route);

// "POST" for what changes something, "GET, HEAD" or "GET" for the rest, all three for the session:
// of the header Allow.
absl::string_view AllowedVerbs(Route route);

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_ROUTE_H_
