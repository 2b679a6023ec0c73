#include "server/api/request_check.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "server/queue/job_record.h"

namespace attnprune::api {
namespace {

constexpr int kMaxLabels = 64;
constexpr size_t kMaxLabelKey = 63, kMaxLabelValue = 255, kMaxRequestId = 128, kMaxId = 63;
constexpr int kMaxPriority = 1000;
constexpr int64_t kMaxTimeoutSeconds = 315'576'000'000;  // google.protobuf.Duration's own
constexpr int32_t kNanosPerSecond = 1'000'000'000;
constexpr absl::string_view kJobPrefix = "jobs/", kRunPrefix = "runs/";

using LabelMap = google::protobuf::Map<std::string, std::string>;

bool IsLabelKey(absl::string_view key) {
  return !key.empty() && key.size() <= kMaxLabelKey &&
         std::all_of(key.begin(), key.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  absl::StrContains("._/-", absl::string_view(&c, 1));
         });
}

absl::Status CheckLabels(const std::string& field, const LabelMap& labels) {
  if (labels.size() > static_cast<size_t>(kMaxLabels)) {
    return MustError(field, absl::StrCat("have at most ", kMaxLabels, " entries"), labels.size());
  }
  for (const auto& [key, value] : labels) {
    if (!IsLabelKey(key)) {
      return MustError(
          field, absl::StrCat("have keys of 1 to ", kMaxLabelKey, " characters [A-Za-z0-9._/-]"),
          Quoted(key));
    }
    if (value.size() > kMaxLabelValue) {
      return FieldError(field, absl::StrCat("must have values of at most ", kMaxLabelValue,
                                            " bytes, got ", value.size(), " for ", key));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTimeout(const std::string& field, const google::protobuf::Duration& timeout) {
  const int64_t seconds = timeout.seconds();
  const bool none = seconds == 0 && timeout.nanos() == 0;
  const bool valid = seconds >= 1 && seconds <= kMaxTimeoutSeconds && timeout.nanos() >= 0 &&
                     timeout.nanos() < kNanosPerSecond;
  if (none || valid) return absl::OkStatus();
  return FieldError(field, absl::StrCat("must be 0 or from 1 s to ", kMaxTimeoutSeconds, " s, got ",
                                        seconds, " s and ", timeout.nanos(), " ns"));
}

template <typename Message>
void ClearCommonOutput(Message& message) {
  message.clear_name();
  message.clear_state();
  message.clear_failure();
  message.clear_results();
  message.clear_create_time();
  message.clear_start_time();
  message.clear_end_time();
  message.clear_attempt();
  message.clear_cancel_requested();
  message.clear_request_id();
  message.clear_estimate();
  message.clear_waiting();
  message.clear_at_work();
}

template <typename Message>
absl::Status CheckCommonOf(const std::string& name, const Message& message) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckLabels(name + ".labels", message.labels()));
  if (message.priority() < -kMaxPriority || message.priority() > kMaxPriority) {
    return MustError(name + ".priority",
                     absl::StrCat("be in [", -kMaxPriority, ", ", kMaxPriority, "]"),
                     message.priority());
  }
  return CheckTimeout(name + ".timeout", message.timeout());
}

bool IsId(absl::string_view id) {
  return !id.empty() && id.size() <= kMaxId && std::all_of(id.begin(), id.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'z') || c == '-';
  });
}

// The id behind `prefix`, of the kind; empty: it is not such a name.
absl::string_view IdBehind(absl::string_view name, absl::string_view prefix, JobKind kind) {
  absl::string_view id = name;
  const bool valid = absl::ConsumePrefix(&id, prefix) && IsId(id) && KindOf(id) == kind;
  return valid ? id : absl::string_view();
}

}  // namespace

absl::StatusOr<std::string> ParseJobName(absl::string_view name) {
  const absl::string_view id = IdBehind(name, kJobPrefix, JobKind::kMethods);
  if (!id.empty()) return std::string(id);
  return FieldError("name", absl::StrCat("must be jobs/{id}, id of 1 to ", kMaxId,
                                         " characters [a-z0-9-], got ", Quoted(name)));
}

absl::StatusOr<std::string> ParseRunName(absl::string_view name) {
  const absl::string_view id = IdBehind(name, kRunPrefix, JobKind::kRun);
  if (!id.empty()) return std::string(id);
  return FieldError("name", absl::StrCat("must be runs/{id}, id beginning with ", kRunIdPrefix,
                                         ", got ", Quoted(name)));
}

absl::StatusOr<std::string> ParseWatchedName(absl::string_view name) {
  return absl::StartsWith(name, kRunPrefix) ? ParseRunName(name) : ParseJobName(name);
}

std::string JobName(absl::string_view id) { return absl::StrCat(kJobPrefix, id); }
std::string RunName(absl::string_view id) { return absl::StrCat(kRunPrefix, id); }

absl::Status CheckRequestId(absl::string_view request_id) {
  const bool printable = std::all_of(request_id.begin(), request_id.end(), [](char c) {
    return absl::ascii_isprint(static_cast<unsigned char>(c));
  });
  if (printable && request_id.size() <= kMaxRequestId) return absl::OkStatus();
  return MustError("request_id",
                   absl::StrCat("be at most ", kMaxRequestId, " printable ASCII characters"),
                   Quoted(request_id));
}

absl::Status CheckFilterLabels(const LabelMap& labels) { return CheckLabels("labels", labels); }

absl::Status CheckCommon(const v1::Job& job) { return CheckCommonOf("job", job); }
absl::Status CheckCommon(const v1::Run& run) { return CheckCommonOf("run", run); }

void ClearOutput(v1::Job& job) { ClearCommonOutput(job); }
void ClearOutput(v1::Run& run) {
  ClearCommonOutput(run);
  run.clear_results_done();
  run.clear_results_total();
}

}  // namespace attnprune::api
