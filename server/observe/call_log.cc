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
constexpr absl::string_view kChanging[] = {"CreateJob", "CancelJob", "DeleteJob", "CreateRun",
                                           "CancelRun", "ResumeRun", "DeleteRun", "UploadTensor"};

LogLevel LevelOf(const FinishedRpc& call) {
  switch (call.code) {
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kDataLoss:
      return LogLevel::kWarning;
    case absl::StatusCode::kOk:
    case absl::StatusCode::kCancelled: {  // the caller has left
      const bool changing = std::count(std::begin(kChanging), std::end(kChanging), call.method) > 0;
      return changing ? LogLevel::kInfo : LogLevel::kDebug;
    }
    default:
      return LogLevel::kInfo;
  }
}

std::string Milliseconds(absl::Duration took) {
  return absl::StrFormat("%.3f", absl::ToDoubleMilliseconds(took));
}

template <typename Call>
void AppendRequest(const Call& call, LogFields* fields) {
  const RequestTrace& request = call.request;
  if (!call.job.empty()) fields->emplace_back("job", call.job);
  if (!call.tenant.empty()) fields->emplace_back("tenant", call.tenant);
  if (!call.who.empty()) fields->emplace_back("who", call.who);
  fields->emplace_back("request_id", request.request_id);
  fields->emplace_back("trace_id", request.trace.trace_id);
  fields->emplace_back("span_id", request.trace.span_id);
  if (!request.caller_span.empty()) fields->emplace_back("parent_span_id", request.caller_span);
}

}  // namespace

void LogRpc(const FinishedRpc& call) {
  const LogLevel level = LevelOf(call);
  if (!Logs(level)) return;
  LogFields fields = {{"rpc", call.method},
                      {"code", absl::StatusCodeToString(call.code)},
                      {"milliseconds", Milliseconds(call.took)}};
  AppendRequest(call, &fields);
  Log(level, "rpc", fields);
}

// 503 is no failure: the server drains, or its port is full.
void LogHttpRequest(const FinishedHttpRequest& call) {
  if (call.verb != "POST" && call.status < 500) return;
  LogFields fields = {{"method", std::string(call.verb)},
                      {"path", call.path.substr(0, kMaxPath)},
                      {"code", absl::StrCat(call.status)},
                      {"milliseconds", Milliseconds(call.took)}};
  AppendRequest(call, &fields);
  Log(call.status == 500 ? LogLevel::kWarning : LogLevel::kInfo, "http", fields);
}

}  // namespace attnprune
