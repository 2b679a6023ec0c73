#include "server/http/route.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace attnprune::http {
namespace {

constexpr absl::string_view kJobsPath = "/api/v1/jobs/", kRunsPath = "/api/v1/runs/";

RouteMatch MatchJob(absl::string_view rest) {
  const std::vector<std::string> parts = absl::StrSplit(rest, '/');
  if (parts.size() == 1) {
    absl::string_view id = parts[0];
    const bool cancel = absl::ConsumeSuffix(&id, ":cancel");
    return {cancel ? Route::kCancel : Route::kJob, std::string(id), ""};
  }
  if (parts.size() == 2 && parts[1] == "events") return {Route::kEvents, parts[0], ""};
  if (parts.size() == 4 && parts[1] == "results" && parts[3] == "density") {
    return {Route::kDensity, parts[0], parts[2]};
  }
  return {};
}

RouteMatch MatchRun(absl::string_view rest) {
  const std::vector<std::string> parts = absl::StrSplit(rest, '/');
  if (parts.size() == 2 && parts[1] == "events") return {Route::kEvents, parts[0], ""};
  if (parts.size() != 1) return {};
  absl::string_view id = parts[0];
  Route route = Route::kRun;
  if (absl::ConsumeSuffix(&id, ":cancel")) {
    route = Route::kCancelRun;
  } else if (absl::ConsumeSuffix(&id, ":resume")) {
    route = Route::kResumeRun;
  }
  return {route, std::string(id), ""};
}

}  // namespace

RouteMatch MatchRoute(absl::string_view path) {
  if (path == "/metrics") return {Route::kMetrics, "", ""};
  if (path == "/healthz") return {Route::kHealth, "", ""};
  if (path == "/api/v1/session") return {Route::kSession, "", ""};
  if (path == "/api/v1/session:end") return {Route::kEndSession, "", ""};
  if (path == "/api/v1/server") return {Route::kServer, "", ""};
  if (path == "/api/v1/jobs") return {Route::kJobs, "", ""};
  if (path == "/api/v1/runs") return {Route::kRuns, "", ""};
  if (absl::ConsumePrefix(&path, kJobsPath)) return MatchJob(path);
  if (absl::ConsumePrefix(&path, kRunsPath)) return MatchRun(path);
  if (absl::StartsWith(path, "/api/")) return {};
  return {Route::kPage, "", ""};
}

absl::string_view ActionOf(Route route) {
  switch (route) {
    case Route::kCancel:
      return "CancelJob";
    case Route::kCancelRun:
      return "CancelRun";
    case Route::kResumeRun:
      return "ResumeRun";
    default:
      return "";
  }
}

absl::string_view AllowedVerbs(Route route) {
  switch (route) {
    case Route::kCancel:
    case Route::kCancelRun:
    case Route::kResumeRun:
    case Route::kEndSession:
      return "POST";
    case Route::kSession:
      return "GET, HEAD, POST";
    case Route::kEvents:
      return "GET";
    default:
      return "GET, HEAD";
  }
}

}  // namespace attnprune::http
