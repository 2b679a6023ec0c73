#include "server/api/job_check.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/api/request_check.h"
#include "server/api/submission.h"

namespace attnprune::api {
namespace {

constexpr size_t kMaxMethods = 64;
constexpr size_t kMaxScores = 65'536;  // errors of a head, which every result has

absl::Status CheckScalars(const v1::Job& job) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckCommon(job));
  if (job.evaluate_every() >= -1) return absl::OkStatus();
  return MustError("job.evaluate_every", "be at least -1", job.evaluate_every());
}

absl::StatusOr<std::vector<ChosenMethod>> CheckMethods(const std::vector<JobMethod>& methods) {
  if (methods.empty() || methods.size() > kMaxMethods) {
    return MustError("job.methods", absl::StrCat("have 1 to ", kMaxMethods, " entries"),
                     methods.size());
  }
  std::vector<ChosenMethod> chosen;
  for (size_t i = 0; i < methods.size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(ChosenMethod method,
                               DecodeMethod(methods[i].spec, absl::StrCat("job.methods[", i, "]")));
    chosen.push_back(std::move(method));
  }
  return chosen;
}

absl::Status CheckScores(const CheckedJob& checked) {
  const auto heads = static_cast<size_t>(checked.spec.shape.heads());
  if (checked.methods.size() * heads <= kMaxScores) return absl::OkStatus();
  return MustError("job.methods",
                   absl::StrCat("have, times the ", heads, " query heads, at most ", kMaxScores),
                   checked.methods.size());
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
  ATTNPRUNE_RETURN_IF_ERROR(CheckTensorNames(checked.Tensors()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckScores(checked));
  ClearOutput(checked.job);
  LabelMethods(checked.job);
  ATTNPRUNE_RETURN_IF_ERROR(CheckStoredBytes("job", checked.job.ByteSizeLong()));
  return checked;
}

}  // namespace attnprune::api
