#include "server/observe/job_log.h"

#include "absl/strings/str_cat.h"
#include "server/observe/log.h"

namespace attnprune {
namespace {

// Fields that every line of a job begins with.
LogFields Common(const std::string& job_id, const StoredEvent& event) {
  return {{"job", absl::StrCat("jobs/", job_id)}, {"sequence", absl::StrCat(event.sequence)}};
}

void LogState(const char* name, LogFields fields, const StoredEvent& event) {
  fields.emplace_back("state", std::string(ToString(event.state)));
  fields.emplace_back("attempt", absl::StrCat(event.attempt));
  if (!event.payload.empty()) fields.emplace_back("reason", event.payload);
  Log(event.state == JobState::kFailed ? LogLevel::kWarning : LogLevel::kInfo, name, fields);
}

void LogEvent(const std::string& job_id, const StoredEvent& event) {
  LogFields fields = Common(job_id, event);
  switch (event.kind) {
    case EventKind::kStateChange:
      return LogState("job.state", fields, event);
    case EventKind::kTerminal:
      return LogState("job.end", fields, event);
    case EventKind::kProgress:
      return Log(LogLevel::kDebug, "job.progress", fields);
    case EventKind::kMethodResult:
      fields.emplace_back("method_index", absl::StrCat(event.method_index));
      return Log(LogLevel::kInfo, "job.result", fields);
    case EventKind::kWarning:
      fields.emplace_back("message", event.payload);
      return Log(LogLevel::kWarning, "job.warning", fields);
  }
}

}  // namespace

void JobLog::OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) {
  for (const StoredEvent& event : events) LogEvent(job_id, event);
}

void JobLog::OnCancelRequested(const std::string& job_id) {
  Log(LogLevel::kInfo, "job.cancel", {{"job", absl::StrCat("jobs/", job_id)}});
}

}  // namespace attnprune
