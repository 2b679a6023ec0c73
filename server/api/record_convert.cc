#include "server/api/record_convert.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/api/request_check.h"

namespace attnprune::api {
namespace {

// The stored numbers are the API's.
static_assert(static_cast<int>(JobState::kQueued) == v1::QUEUED);
static_assert(static_cast<int>(JobState::kRunning) == v1::RUNNING);
static_assert(static_cast<int>(JobState::kSucceeded) == v1::SUCCEEDED);
static_assert(static_cast<int>(JobState::kFailed) == v1::FAILED);
static_assert(static_cast<int>(JobState::kCancelled) == v1::CANCELLED);

v1::JobState ToProto(JobState state) { return static_cast<v1::JobState>(state); }

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the stored ", what, " is not a message of the API"));
}

// What only the server goes on from.
void HideState(v1::RunResult& result) {
  result.clear_states();
  result.clear_curvature();
}

// Everything but the name.
template <typename Message>
absl::Status Fill(const JobRecord& record, Message& message) {
  if (!message.ParseFromString(record.spec)) return Damaged(absl::StrCat("job ", record.id));
  message.set_state(ToProto(record.state));
  if (record.failure.code != absl::StatusCode::kOk) {
    message.mutable_failure()->set_code(static_cast<int>(record.failure.code));
    message.mutable_failure()->set_message(record.failure.message);
  }
  for (const std::string& result : record.results) {
    if (!message.add_results()->ParseFromString(result)) {
      return Damaged(absl::StrCat("result of job ", record.id));
    }
  }
  *message.mutable_create_time() = api::ToProto(record.create_time);
  if (record.start_time.has_value()) {
    *message.mutable_start_time() = api::ToProto(*record.start_time);
  }
  if (record.end_time.has_value()) *message.mutable_end_time() = api::ToProto(*record.end_time);
  message.set_attempt(record.attempt);
  message.set_cancel_requested(record.cancel_requested);
  message.set_request_id(record.request_id);
  return absl::OkStatus();
}

}  // namespace

google::protobuf::Timestamp ToProto(absl::Time time) {
  return google::protobuf::util::TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(time));
}

absl::StatusOr<v1::Job> ToProto(const JobRecord& record) {
  v1::Job job;
  ATTNPRUNE_RETURN_IF_ERROR(Fill(record, job));
  job.set_name(JobName(record.id));
  return job;
}

absl::StatusOr<v1::Run> RunToProto(const JobRecord& record) {
  v1::Run run;
  ATTNPRUNE_RETURN_IF_ERROR(Fill(record, run));
  run.set_name(RunName(record.id));
  run.set_results_done(run.results_size());
  auto& results = *run.mutable_results();
  for (v1::RunResult& result : results) HideState(result);
  // In INDEPENDENT order they come as workers get done.
  std::stable_sort(results.begin(), results.end(),
                   [](const auto& a, const auto& b) { return a.block() < b.block(); });
  return run;
}

absl::StatusOr<v1::JobEvent> ToProto(const StoredEvent& event, JobKind kind) {
  v1::JobEvent message;
  message.set_sequence(event.sequence);
  *message.mutable_time() = ToProto(event.time);
  switch (event.kind) {
    case EventKind::kStateChange:
      message.mutable_state_change()->set_state(ToProto(event.state));
      message.mutable_state_change()->set_attempt(event.attempt);
      message.mutable_state_change()->set_reason(event.payload);
      return message;
    case EventKind::kProgress:
    case EventKind::kEvaluated:
      if (!message.mutable_progress()->ParseFromString(event.payload)) return Damaged("progress");
      if (message.progress().has_phase()) {
        // Taken out first: the event's fields share their place.
        v1::PhaseProgress phase = std::move(*message.mutable_progress()->mutable_phase());
        *message.mutable_phase() = std::move(phase);
      } else if (message.progress().has_run()) {
        v1::RunProgress progress = std::move(*message.mutable_progress()->mutable_run());
        *message.mutable_run_progress() = std::move(progress);
      }
      return message;
    case EventKind::kMethodResult:
      if (kind == JobKind::kRun) {
        if (!message.mutable_run_result()->ParseFromString(event.payload)) return Damaged("result");
        HideState(*message.mutable_run_result());
        return message;
      }
      if (message.mutable_method_result()->ParseFromString(event.payload)) return message;
      return Damaged("result");
    case EventKind::kWarning:
      message.set_warning(event.payload);
      return message;
    case EventKind::kTerminal:
      kind == JobKind::kRun ? void(message.mutable_run_terminal())
                            : void(message.mutable_terminal());
      return message;
  }
  return Damaged("event");
}

}  // namespace attnprune::api
