#include "server/call_log.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "server/observe/log.h"

namespace attnprune {
namespace {

constexpr absl::string_view kChanging[] = {"CreateJob", "CancelJob", "DeleteJob", "UploadTensor"};

LogLevel LevelOf(const rpc::FinishedCall& call) {
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

}  // namespace

void LogCall(const rpc::FinishedCall& call) {
  const LogLevel level = LevelOf(call);
  if (!Logs(level)) return;
  LogFields fields = {
      {"rpc", call.method},
      {"code", absl::StatusCodeToString(call.code)},
      {"milliseconds", absl::StrFormat("%.3f", absl::ToDoubleMilliseconds(call.took))}};
  if (!call.job.empty()) fields.emplace_back("job", call.job);
  fields.emplace_back("request_id", call.request_id);
  fields.emplace_back("trace_id", call.trace.trace_id);
  fields.emplace_back("span_id", call.trace.span_id);
  if (!call.caller_span.empty()) fields.emplace_back("parent_span_id", call.caller_span);
  Log(level, "rpc", fields);
}

}  // namespace attnprune
