#include "server/api/job_api.h"

#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/sha256.h"
#include "core/methods/registry.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/api/record_convert.h"
#include "server/api/status_details.h"

extern "C" {
#include <cblas.h>
}

namespace attnprune::api {
namespace {

constexpr int kDefaultPageSize = 50, kMaxPageSize = 1000;
constexpr size_t kMaxPageBytes = size_t{3} << 20;

// The same bytes for equal messages, maps included.
std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

std::vector<std::string> UniqueDigests(const CheckedJob& checked) {
  std::set<std::string> digests;
  for (const JobTensor* tensor : checked.Tensors()) digests.insert(tensor->sha256);
  return {digests.begin(), digests.end()};
}

// `request_digest` does not depend on the estimate, which may come out otherwise next time.
NewJob MakeNewJob(const CheckedJob& checked, const std::string& request_id,
                  const v1::Estimate& estimate) {
  NewJob job;
  job.request_id = request_id;
  job.request_digest = Sha256Of(DeterministicBytes(checked.job));
  job.priority = checked.job.priority();
  job.timeout = ToDuration(checked.job.timeout());
  job.labels = {checked.job.labels().begin(), checked.job.labels().end()};
  v1::Job spec = checked.job;
  *spec.mutable_estimate() = estimate;
  job.spec = DeterministicBytes(spec);
  job.tensor_digests = UniqueDigests(checked);
  return job;
}

absl::Status CheckMemory(const v1::Estimate& estimate, int64_t limit) {
  if (limit == 0 || estimate.memory_bytes() <= limit) return absl::OkStatus();
  return WithReason(
      FieldError("job", absl::StrCat("must need at most ", limit,
                                     " bytes of memory on this server, is estimated to need ",
                                     estimate.memory_bytes())),
      "JOB_TOO_LARGE", {{"limit_bytes", absl::StrCat(limit)}});
}

absl::StatusOr<JobFilter> FilterOf(const v1::ListJobsRequest& request) {
  JobFilter filter;
  for (int i = 0; i < request.states_size(); ++i) {
    const auto state = JobStateFromNumber(request.states(i));
    if (!state.has_value()) {
      return MustError(absl::StrCat("states[", i, "]"), "be a state of a job", request.states(i));
    }
    filter.states.insert(*state);
  }
  filter.labels = {request.labels().begin(), request.labels().end()};
  return filter;
}

absl::StatusOr<int> PageSizeOf(const v1::ListJobsRequest& request) {
  if (request.page_size() == 0) return kDefaultPageSize;
  if (request.page_size() >= 1 && request.page_size() <= kMaxPageSize) return request.page_size();
  return FieldError("page_size",
                    absl::StrCat("must be in [0, ", kMaxPageSize, "], got ", request.page_size()));
}

// --- What the server is ---

std::string CpuModel() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    }
  }
  return "unknown CPU";
}

v1::ParameterInfo::Kind ToProto(Parameter::Kind kind) {
  switch (kind) {
    case Parameter::Kind::kReal:
      return v1::ParameterInfo::REAL;
    case Parameter::Kind::kInteger:
      return v1::ParameterInfo::INTEGER;
    case Parameter::Kind::kSwitch:
      return v1::ParameterInfo::SWITCH;
  }
  return v1::ParameterInfo::KIND_UNSPECIFIED;
}

void Describe(const Parameter& parameter, v1::ParameterInfo& info) {
  info.set_name(parameter.name);
  info.set_kind(ToProto(parameter.kind));
  if (!std::isnan(parameter.default_value)) info.set_default_value(parameter.default_value);
  info.set_min(parameter.min);
  info.set_max(parameter.max);
  info.set_help(parameter.help);
}

// Version, CPU, BLAS and every method with its parameters.
v1::ServerInfo DescribeBuild() {
  v1::ServerInfo info;
  info.set_version(ATTNPRUNE_VERSION);
  info.set_cpu(absl::StrCat(CpuModel(), "; built for ", ATTNPRUNE_BUILT_FOR));
  info.set_blas(openblas_get_config());
  for (const MethodInfo& method : Methods()) {
    v1::MethodInfo& described = *info.add_methods();
    described.set_name(method.name);
    described.set_summary(method.summary);
    described.set_draws_random_numbers(method.draws);
    for (const Parameter& parameter : method.parameters) {
      Describe(parameter, *described.add_parameters());
    }
  }
  return info;
}

}  // namespace

JobApi::JobApi(const JobApiOptions& options, JobStore* jobs, BlobStore* tensors)
    : options_(options), jobs_(jobs), tensors_(tensors) {}

// Missing ones are asked for together and before the sizes are compared: FindMissing starts their
// grace anew, so that they are still there when the job is stored.
absl::Status JobApi::CheckTensors(const CheckedJob& checked) const {
  const std::vector<std::string> digests = UniqueDigests(checked);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                             tensors_->FindMissing(digests));
  if (!missing.empty()) {
    return WithPreconditions(absl::FailedPreconditionError(absl::StrCat(
                                 missing.size(), " of ", digests.size(),
                                 " tensors are not uploaded, the first is ", missing.front())),
                             "TENSOR_MISSING", missing);
  }
  for (const JobTensor* tensor : checked.Tensors()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, tensors_->SizeOf(tensor->sha256));
    if (size == tensor->bytes()) continue;
    return FieldError(absl::StrCat(tensor->field, ".shape"),
                      absl::StrCat("must come to the ", size, " bytes of the stored tensor, got ",
                                   tensor->bytes()));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Job> JobApi::CreateJob(const v1::CreateJobRequest& request,
                                          const JobOrigin& origin) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  if (!request.has_job()) return FieldError("job", "must be given, got none");
  ATTNPRUNE_ASSIGN_OR_RETURN(CheckedJob checked,
                             CheckJob(request.job(), options_.limits.max_tensor_bytes()));
  const v1::Estimate estimate = EstimateJob(checked, options_.rate, options_.max_job_memory_bytes);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMemory(estimate, options_.max_job_memory_bytes));
  ATTNPRUNE_RETURN_IF_ERROR(CheckTensors(checked));
  if (request.validate_only()) {
    *checked.job.mutable_estimate() = estimate;
    return std::move(checked.job);
  }
  NewJob job = MakeNewJob(checked, request.request_id(), estimate);
  job.origin = origin;
  absl::StatusOr<CreateOutcome> outcome = jobs_->Create(job);
  if (absl::IsResourceExhausted(outcome.status())) {
    return WithRetryAfter(outcome.status(), options_.retry_after);
  }
  ATTNPRUNE_RETURN_IF_ERROR(outcome.status());
  return ToProto(outcome->job);
}

absl::StatusOr<v1::Job> JobApi::GetJob(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseJobName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs_->Get(id));
  return ToProto(record);
}

absl::StatusOr<v1::ListJobsResponse> JobApi::ListPage(const JobFilter& filter, int page_size,
                                                      const std::string& page_token) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobPage page, jobs_->List(filter, page_size, page_token));
  v1::ListJobsResponse response;
  for (const JobRecord& record : page.jobs) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*response.add_jobs(), ToProto(record));
  }
  response.set_next_page_token(page.next_page_token);
  return response;
}

// A page may be shorter than asked for, so that it fits a client's default limit on messages.
absl::StatusOr<v1::ListJobsResponse> JobApi::ListJobs(const v1::ListJobsRequest& request) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(int page_size, PageSizeOf(request));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobFilter filter, FilterOf(request));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::ListJobsResponse response,
                               ListPage(filter, page_size, request.page_token()));
    if (response.ByteSizeLong() <= kMaxPageBytes || page_size == 1) return response;
    page_size = (page_size + 1) / 2;
  }
}

absl::StatusOr<v1::Job> JobApi::CancelJob(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseJobName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs_->RequestCancel(id));
  return ToProto(record);
}

absl::Status JobApi::DeleteJob(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseJobName(name));
  return jobs_->Delete(id);
}

absl::StatusOr<v1::ServerInfo> JobApi::GetServerInfo() const {
  v1::ServerInfo info = DescribeBuild();
  *info.mutable_limits() = options_.limits;
  info.set_workers(options_.workers);
  info.set_threads_per_job(options_.threads_per_job);
  ATTNPRUNE_ASSIGN_OR_RETURN(auto counts, jobs_->CountByState());
  info.set_queued_jobs(counts[JobState::kQueued]);
  info.set_running_jobs(counts[JobState::kRunning]);
  return info;
}

}  // namespace attnprune::api
