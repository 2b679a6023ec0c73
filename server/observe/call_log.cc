#include "server/observe/call_log.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "server/observe/log.h"

namespace attnprune {
namespace {

constexpr size_t kMaxPath = 256;  // of a line
constexpr absl::string_view kAudited[] = {"CreateJob", "CancelJob",    "DeleteJob",
                                          "CreateRun", "CancelRun",    "ResumeRun",
                                          "DeleteRun", "UploadTensor", "DownloadTensor"};

LogLevel LevelOf(const FinishedRpc& call) {
  switch (call.code) {
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kDataLoss:
      return LogLevel::kWarning;
    case absl::StatusCode::kOk:
    case absl::StatusCode::kCancelled:  // the caller has left
      return IsAudited(call.method) ? LogLevel::kInfo : LogLevel::kDebug;
    default:
      return LogLevel::kInfo;
  }
}

std::string Milliseconds(absl::Duration took) {
  return absl::StrFormat("%.3f", absl::ToDoubleMilliseconds(took));
}

void AppendGiven(const char* name, const std::string& value, LogFields* fields) {
  if (!value.empty()) fields->emplace_back(name, value);
}

void AppendCaller(const CallSource& caller, LogFields* fields) {
  AppendGiven("who", caller.who, fields);
  AppendGiven("tenant", caller.tenant, fields);
  AppendGiven("peer", caller.peer, fields);
}

void AppendRequest(const RequestTrace& request, LogFields* fields) {
  fields->emplace_back("request_id", request.request_id);
  fields->emplace_back("trace_id", request.trace.trace_id);
  fields->emplace_back("span_id", request.trace.span_id);
  AppendGiven("parent_span_id", request.caller_span, fields);
}

}  // namespace

bool IsAudited(absl::string_view rpc) {
  return std::find(std::begin(kAudited), std::end(kAudited), rpc) != std::end(kAudited);
}

void LogRpc(const FinishedRpc& call) {
  const LogLevel level = LevelOf(call);
  if (!Logs(level)) return;
  LogFields fields = {{"rpc", call.method},
                      {"code", absl::StatusCodeToString(call.code)},
                      {"milliseconds", Milliseconds(call.took)}};
  AppendGiven("job", call.job, &fields);
  AppendGiven("tensor", call.tensor, &fields);
  AppendCaller(call.caller, &fields);
  AppendRequest(call.request, &fields);
  Log(level, "rpc", fields);
}

// 503 is no failure: the server drains, or its port is full.
void LogHttpRequest(const FinishedHttpRequest& call) {
  const bool reads = call.action.empty() && (call.verb == "GET" || call.verb == "HEAD");
  if (reads && call.status < 500) return;
  LogFields fields = {{"method", std::string(call.verb)},
                      {"path", call.path.substr(0, kMaxPath)},
                      {"code", absl::StrCat(call.status)},
                      {"milliseconds", Milliseconds(call.took)}};
  AppendGiven("job", call.job, &fields);
  AppendGiven("tensor", call.tensor, &fields);
  AppendCaller(call.caller, &fields);
  AppendRequest(call.request, &fields);
  Log(call.status == 500 ? LogLevel::kWarning : LogLevel::kInfo, "http", fields);
}

}  // namespace attnprune
