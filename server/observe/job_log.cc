#include "server/observe/job_log.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/prune_service.pb.h"
#include "trace/trace_context.h"

namespace attnprune {
namespace {

void Append(const LogFields& more, LogFields* fields) {
  fields->insert(fields->end(), more.begin(), more.end());
}

LogLevel LevelOf(const StoredEvent& event) {
  if (IsProgress(event.kind)) return LogLevel::kDebug;
  const bool bad = event.kind == EventKind::kWarning || event.state == JobState::kFailed;
  return bad ? LogLevel::kWarning : LogLevel::kInfo;
}

LogFields StateFields(const StoredEvent& event) {
  LogFields fields = {{"state", std::string(ToString(event.state))},
                      {"attempt", absl::StrCat(event.attempt)}};
  if (!event.payload.empty()) fields.emplace_back("reason", event.payload);
  return fields;
}

std::pair<const char*, LogFields> ProgressPart(const StoredEvent& event) {
  v1::Progress progress;
  if (!progress.ParseFromString(event.payload)) progress.Clear();
  if (progress.has_run()) {
    const v1::RunProgress& run = progress.run();
    return {"run.progress",
            {{"block", absl::StrCat(run.block())},
             {"phase", absl::AsciiStrToLower(v1::RunPhase_Name(run.phase()))},
             {"share", absl::StrFormat("%.3f", run.share())}}};
  }
  if (!progress.has_phase()) {
    return {"job.progress",
            {{"method", progress.method()}, {"step", absl::StrCat(progress.step())}}};
  }
  const v1::PhaseProgress& phase = progress.phase();
  LogFields fields = {{"phase", absl::AsciiStrToLower(v1::Phase_Name(phase.phase()))},
                      {"share", absl::StrFormat("%.2f", phase.share())}};
  if (!phase.method().empty()) fields.emplace_back("method", phase.method());
  return {"job.phase", std::move(fields)};
}

LogFields RunResultFields(const StoredEvent& event) {
  LogFields fields = {{"result_index", absl::StrCat(event.method_index)}};
  v1::RunResult result;
  if (!result.ParseFromString(event.payload)) return fields;
  fields.emplace_back("block", absl::StrCat(result.block()));
  if (result.has_measured_curvature()) {
    fields.emplace_back("curvature_tokens", absl::StrCat(result.measured_curvature().tokens()));
  }
  if (result.has_sampled_rows()) {
    fields.emplace_back("sampled_tokens", absl::StrCat(result.sampled_rows().shape(0)));
  }
  if (result.has_reconstructed()) {
    fields.emplace_back("reconstruct_steps", absl::StrCat(result.reconstructed().steps()));
  }
  if (result.has_distilled()) {
    fields.emplace_back("distill_steps", absl::StrCat(result.distilled().steps()));
  }
  if (result.tensors().empty()) return fields;
  std::vector<std::string> names;  // more than one where q and k were pruned together
  for (const v1::PrunedTensor& tensor : result.tensors()) names.push_back(tensor.name());
  fields.emplace_back("tensor", absl::StrJoin(names, ","));
  fields.emplace_back("method", result.tensors(0).method());
  return fields;
}

LogFields ResultFields(const StoredEvent& event) {
  LogFields fields = {{"method_index", absl::StrCat(event.method_index)}};
  v1::MethodResult result;
  if (!result.ParseFromString(event.payload)) return fields;
  fields.emplace_back("method", result.method());
  if (result.has_failure()) fields.emplace_back("error", result.failure().message());
  return fields;
}

// The line's name, and what only this kind of event has.
std::pair<const char*, LogFields> OwnPart(const std::string& job_id, const StoredEvent& event) {
  switch (event.kind) {
    case EventKind::kStateChange:
      return {"job.state", StateFields(event)};
    case EventKind::kTerminal:
      return {"job.end", StateFields(event)};
    case EventKind::kProgress:
    case EventKind::kEvaluated:
      return ProgressPart(event);
    case EventKind::kMethodResult:
      if (KindOf(job_id) == JobKind::kRun) return {"run.result", RunResultFields(event)};
      return {"job.result", ResultFields(event)};
    case EventKind::kWarning:
      break;
  }
  return {"job.warning", {{"text", event.payload}}};
}

void LogEvent(const std::string& job_id, const StoredEvent& event) {
  const LogLevel level = LevelOf(event);
  if (!Logs(level)) return;
  LogFields fields = {{"job", NameOf(job_id)}, {"sequence", absl::StrCat(event.sequence)}};
  const auto [name, own] = OwnPart(job_id, event);
  Append(own, &fields);
  Append(FieldsOf(event.origin), &fields);
  Log(level, name, fields);
}

}  // namespace

LogFields FieldsOf(const JobOrigin& origin) {
  LogFields fields;
  if (!origin.request_id.empty()) fields.emplace_back("request_id", origin.request_id);
  if (const auto trace = ParseTraceparent(origin.traceparent)) {
    fields.emplace_back("trace_id", trace->trace_id);
    fields.emplace_back("span_id", trace->span_id);
  }
  return fields;
}

LogFields JobLog::FieldsOf(const std::string& job_id) const {
  const MutexLock lock(&mutex_);
  const auto origin = origins_.find(job_id);
  return origin == origins_.end() ? LogFields() : attnprune::FieldsOf(origin->second);
}

void JobLog::OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) {
  for (const StoredEvent& event : events) {
    LogEvent(job_id, event);
    const MutexLock lock(&mutex_);
    if (event.kind == EventKind::kTerminal) {
      origins_.erase(job_id);
    } else {
      origins_[job_id] = event.origin;
    }
  }
}

void JobLog::OnCancelRequested(const std::string& job_id) {
  LogFields fields = {{"job", NameOf(job_id)}};
  Append(FieldsOf(job_id), &fields);
  Log(LogLevel::kInfo, "job.cancel", fields);
}

void JobLog::OnRemoteChange(const JobChange& job) {
  if (!IsTerminal(job.state)) return;
  const MutexLock lock(&mutex_);
  origins_.erase(job.job_id);
}

void JobLog::OnTrouble(const std::string& job_id, const absl::Status& status) {
  LogFields fields = {{"error", status.ToString()}};
  if (!job_id.empty()) fields.emplace_back("job", NameOf(job_id));
  Append(FieldsOf(job_id), &fields);
  Log(LogLevel::kWarning, "job.trouble", fields);
}

}  // namespace attnprune
