#include "server/api/job_check.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"

namespace attnprune::api {
namespace {

constexpr int kMaxLabels = 64;
constexpr size_t kMaxLabelKey = 63, kMaxLabelValue = 255, kMaxRequestId = 128, kMaxJobId = 63;
constexpr int kMaxPriority = 1000;
constexpr size_t kMaxMethods = 64;
constexpr int64_t kMaxTimeoutSeconds = 315'576'000'000;  // google.protobuf.Duration's own
constexpr int32_t kNanosPerSecond = 1'000'000'000;
constexpr absl::string_view kJobPrefix = "jobs/";

// What of a client's text goes into a message.
std::string Shown(absl::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, 80)),
                      text.size() > 80 ? "\"..." : "\"");
}

bool IsLabelKey(absl::string_view key) {
  return !key.empty() && key.size() <= kMaxLabelKey &&
         std::all_of(key.begin(), key.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  absl::StrContains("._/-", absl::string_view(&c, 1));
         });
}

absl::Status CheckLabels(const v1::Job& job) {
  if (job.labels_size() > kMaxLabels) {
    return MustError("job.labels", absl::StrCat("have at most ", kMaxLabels, " entries"),
                     job.labels_size());
  }
  for (const auto& [key, value] : job.labels()) {
    if (!IsLabelKey(key)) {
      return MustError(
          "job.labels",
          absl::StrCat("have keys of 1 to ", kMaxLabelKey, " characters [A-Za-z0-9._/-]"),
          Shown(key));
    }
    if (value.size() > kMaxLabelValue) {
      return FieldError("job.labels", absl::StrCat("must have values of at most ", kMaxLabelValue,
                                                   " bytes, got ", value.size(), " for ", key));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTimeout(const google::protobuf::Duration& timeout) {
  const int64_t seconds = timeout.seconds();
  const bool none = seconds == 0 && timeout.nanos() == 0;
  const bool valid = seconds >= 1 && seconds <= kMaxTimeoutSeconds && timeout.nanos() >= 0 &&
                     timeout.nanos() < kNanosPerSecond;
  if (none || valid) return absl::OkStatus();
  return FieldError("job.timeout",
                    absl::StrCat("must be 0 or from 1 s to ", kMaxTimeoutSeconds, " s, got ",
                                 seconds, " s and ", timeout.nanos(), " ns"));
}

absl::Status CheckScalars(const v1::Job& job) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckLabels(job));
  if (job.priority() < -kMaxPriority || job.priority() > kMaxPriority) {
    return MustError("job.priority",
                     absl::StrCat("be in [", -kMaxPriority, ", ", kMaxPriority, "]"),
                     job.priority());
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckTimeout(job.timeout()));
  if (job.evaluate_every() >= -1) return absl::OkStatus();
  return MustError("job.evaluate_every", "be at least -1", job.evaluate_every());
}

// core names "method" or "gd.lambda"; the client gets the path in its own message.
std::string MethodField(const MethodSpec& method, absl::string_view item,
                        absl::string_view core_field) {
  if (core_field == "method") return absl::StrCat(item, ".name");
  absl::string_view parameter = core_field;
  if (absl::ConsumePrefix(&parameter, absl::StrCat(method.name, "."))) {
    return absl::StrCat(item, ".parameters.", parameter);
  }
  return absl::StrCat(item, ".parameters");
}

absl::StatusOr<ChosenMethod> CheckMethod(const MethodSpec& method, absl::string_view item) {
  if (method.name.size() > kMaxLabelKey) {
    return MustError(absl::StrCat(item, ".name"), "be the name of a method", Shown(method.name));
  }
  for (const auto& [name, value] : method.parameters) {
    if (name.size() <= kMaxLabelKey) continue;
    return FieldError(absl::StrCat(item, ".parameters"),
                      absl::StrCat("must be parameters of ", method.name, ", got ", Shown(name)));
  }
  absl::StatusOr<ChosenMethod> chosen = ChooseMethod(method);
  if (chosen.ok()) return chosen;
  return WithField(chosen.status(), MethodField(method, item, FieldAtFault(chosen.status())));
}

absl::StatusOr<std::vector<ChosenMethod>> CheckMethods(const std::vector<JobMethod>& methods) {
  if (methods.empty() || methods.size() > kMaxMethods) {
    return MustError("job.methods", absl::StrCat("have 1 to ", kMaxMethods, " entries"),
                     methods.size());
  }
  std::vector<ChosenMethod> chosen;
  for (size_t i = 0; i < methods.size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(ChosenMethod method,
                               CheckMethod(methods[i].spec, absl::StrCat("job.methods[", i, "]")));
    chosen.push_back(std::move(method));
  }
  return chosen;
}

void ClearOutput(v1::Job& job) {
  job.clear_name();
  job.clear_state();
  job.clear_failure();
  job.clear_results();
  job.clear_create_time();
  job.clear_start_time();
  job.clear_end_time();
  job.clear_attempt();
  job.clear_cancel_requested();
  job.clear_request_id();
  job.clear_estimate();
}

// "gd", "gd#2", "gd#3": from the second method of a name on.
void LabelMethods(v1::Job& job) {
  std::map<std::string, int> seen;
  for (v1::Method& method : *job.mutable_methods()) {
    const int count = ++seen[method.name()];
    method.set_label(count == 1 ? method.name() : absl::StrCat(method.name(), "#", count));
  }
}

}  // namespace

std::vector<const JobTensor*> CheckedJob::Tensors() const {
  std::vector<const JobTensor*> tensors;
  for (const auto* some : {&spec.weights, &spec.calibration, &spec.held_out}) {
    for (const JobTensor& tensor : *some) tensors.push_back(&tensor);
  }
  return tensors;
}

absl::StatusOr<CheckedJob> CheckJob(const v1::Job& job, int64_t max_tensor_bytes) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckScalars(job));
  CheckedJob checked;
  checked.job = job;
  ATTNPRUNE_ASSIGN_OR_RETURN(checked.spec, DecodeJob(job, max_tensor_bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(checked.methods, CheckMethods(checked.spec.methods));
  ClearOutput(checked.job);
  LabelMethods(checked.job);
  return checked;
}

absl::StatusOr<std::string> ParseJobName(absl::string_view name) {
  absl::string_view id = name;
  const bool prefixed = absl::ConsumePrefix(&id, kJobPrefix);
  const bool valid = prefixed && !id.empty() && id.size() <= kMaxJobId &&
                     std::all_of(id.begin(), id.end(), [](char c) {
                       return absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
                              (c >= 'a' && c <= 'z') || c == '-';
                     });
  if (valid) return std::string(id);
  return FieldError("name", absl::StrCat("must be jobs/{id}, id of 1 to ", kMaxJobId,
                                         " characters [a-z0-9-], got ", Shown(name)));
}

std::string JobName(absl::string_view id) { return absl::StrCat(kJobPrefix, id); }

absl::Status CheckRequestId(absl::string_view request_id) {
  const bool printable = std::all_of(request_id.begin(), request_id.end(), [](char c) {
    return absl::ascii_isprint(static_cast<unsigned char>(c));
  });
  if (printable && request_id.size() <= kMaxRequestId) return absl::OkStatus();
  return MustError("request_id",
                   absl::StrCat("be at most ", kMaxRequestId, " printable ASCII characters"),
                   Shown(request_id));
}

}  // namespace attnprune::api
