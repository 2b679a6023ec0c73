#include "server/web/job_routes.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/api/request_check.h"
#include "server/web/api_json.h"
#include "server/web/density.h"

namespace attnprune::web {
namespace {

using access::Caller;

template <typename Request>
absl::Status ParseState(const std::string& text, Request* request) {
  v1::JobState state;
  if (v1::JobState_Parse(text, &state)) {
    request->add_states(state);
    return absl::OkStatus();
  }
  return FieldError("states",
                    absl::StrCat("must be the name of a job's state, got \"", text, "\""));
}

template <typename Message>
absl::StatusOr<http::Response> AsJson(const http::Request& request,
                                      const absl::StatusOr<Message>& message) {
  if (!message.ok()) return message.status();
  return JsonResponse(request, *message);
}

// Of what is deleted.
absl::StatusOr<http::Response> AsNothing(const http::Request& request, const absl::Status& status) {
  if (!status.ok()) return status;
  return TextResponse(request, "{}\n", "application/json");
}

template <typename Request, typename Make>
absl::StatusOr<http::Response> AnswerCreate(const http::Request& request, CallTold* told,
                                            Make make) {
  Request create;
  ATTNPRUNE_RETURN_IF_ERROR(FromJson(request.body, &create));
  told->validate_only = create.validate_only();
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto made, make(create));
  told->job = made.name();
  return JsonResponse(request, made);
}

absl::StatusOr<http::Response> AnswerDensity(const Caller& caller, const api::JobApi& api,
                                             const BlobStore& tensors,
                                             const http::RouteMatch& match,
                                             const http::Request& request) {
  std::string matrix;
  int cells = kDefaultCells;
  for (const auto& [name, value] : request.query) {
    if (name == "matrix") {
      matrix = value;
    } else if (name == "cells") {
      ATTNPRUNE_RETURN_IF_ERROR(ParseInteger(name, value, &cells));
    } else {
      return UnknownParameter(name);
    }
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Job job, api.GetJob(caller, api::JobName(match.id)));
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string json,
                             DensityJson(job, match.index, matrix, cells, tensors));
  return TextResponse(request, std::move(json), "application/json");
}

template <typename Request>
absl::StatusOr<Request> ParseList(const http::Pairs& query) {
  Request request;
  for (const auto& [name, value] : query) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool paging, ParsePaging(name, value, &request));
    absl::string_view label = name;
    if (paging) continue;
    if (name == "states") {
      ATTNPRUNE_RETURN_IF_ERROR(ParseState(value, &request));
    } else if (absl::ConsumePrefix(&label, "labels.")) {
      (*request.mutable_labels())[std::string(label)] = value;
    } else {
      return UnknownParameter(name);
    }
  }
  return request;
}

}  // namespace

absl::StatusOr<v1::ListJobsRequest> ParseListJobs(const http::Pairs& query) {
  return ParseList<v1::ListJobsRequest>(query);
}

absl::StatusOr<v1::ListRunsRequest> ParseListRuns(const http::Pairs& query) {
  return ParseList<v1::ListRunsRequest>(query);
}

absl::StatusOr<int64_t> ParseAfter(const http::Request& request) {
  int64_t after = 0;
  for (const auto& [name, value] : request.query) {
    if (name != "after_sequence" && name != "afterSequence") return UnknownParameter(name);
    ATTNPRUNE_RETURN_IF_ERROR(ParseInteger(name, value, &after));
  }
  if (request.last_event_id.empty()) return after;
  ATTNPRUNE_RETURN_IF_ERROR(ParseInteger("Last-Event-ID", request.last_event_id, &after));
  return after;
}

absl::StatusOr<http::Response> AnswerJobRoute(const Caller& caller, const api::JobApi& api,
                                              const BlobStore& tensors,
                                              const http::RouteMatch& match,
                                              const http::Request& request, const JobOrigin& origin,
                                              CallTold* told) {
  using http::Route;
  if (match.route == Route::kDensity) return AnswerDensity(caller, api, tensors, match, request);
  if (match.route == Route::kJobs) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListJobsRequest list, ParseListJobs(request.query));
    return AsJson(request, api.ListJobs(caller, list));
  }
  ATTNPRUNE_RETURN_IF_ERROR(NoParameters(request.query));
  if (match.route == Route::kServer) return AsJson(request, api.GetServerInfo());
  if (match.route == Route::kCreateJob) {
    return AnswerCreate<v1::CreateJobRequest>(
        request, told, [&](const auto& create) { return api.CreateJob(caller, create, origin); });
  }
  const std::string name = api::JobName(match.id);
  if (match.route == Route::kDeleteJob) return AsNothing(request, api.DeleteJob(caller, name));
  if (match.route == Route::kCancel) return AsJson(request, api.CancelJob(caller, name));
  return AsJson(request, api.GetJob(caller, name));
}

bool IsRunRoute(http::Route route) {
  using http::Route;
  return route == Route::kRuns || route == Route::kCreateRun || route == Route::kRun ||
         route == Route::kDeleteRun || route == Route::kCancelRun || route == Route::kResumeRun;
}

absl::StatusOr<http::Response> AnswerRunRoute(const Caller& caller, const api::RunApi& api,
                                              const http::RouteMatch& match,
                                              const http::Request& request, const JobOrigin& origin,
                                              CallTold* told) {
  using http::Route;
  if (match.route == Route::kRuns) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListRunsRequest list, ParseListRuns(request.query));
    return AsJson(request, api.ListRuns(caller, list));
  }
  ATTNPRUNE_RETURN_IF_ERROR(NoParameters(request.query));
  if (match.route == Route::kCreateRun) {
    return AnswerCreate<v1::CreateRunRequest>(
        request, told, [&](const auto& create) { return api.CreateRun(caller, create, origin); });
  }
  const std::string name = api::RunName(match.id);
  if (match.route == Route::kDeleteRun) return AsNothing(request, api.DeleteRun(caller, name));
  if (match.route == Route::kCancelRun) return AsJson(request, api.CancelRun(caller, name));
  if (match.route == Route::kResumeRun) return AsJson(request, api.ResumeRun(caller, name));
  return AsJson(request, api.GetRun(caller, name));
}

}  // namespace attnprune::web
