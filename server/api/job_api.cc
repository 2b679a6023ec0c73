#include "server/api/job_api.h"

#include <cmath>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/methods/registry.h"
#include "server/api/record_convert.h"
#include "server/api/request_check.h"
#include "server/api/seen_job.h"
#include "server/api/submission.h"

extern "C" {
#include <cblas.h>
}

namespace attnprune::api {
namespace {

// `request_digest` does not depend on the estimate, which may come out otherwise next time.
NewJob MakeNewJob(const CheckedJob& checked, const std::string& request_id,
                  const v1::Estimate& estimate) {
  NewJob job = NewJobOf(checked.job, request_id);
  v1::Job spec = checked.job;
  *spec.mutable_estimate() = estimate;
  job.spec = DeterministicBytes(spec);
  job.tensor_digests = UniqueDigests(checked.Tensors());
  return job;
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
    described.set_linear_maps(method.linear);
    for (const Parameter& parameter : method.parameters) {
      Describe(parameter, *described.add_parameters());
    }
  }
  return info;
}

}  // namespace

JobApi::JobApi(const JobApiOptions& options, JobStore* jobs, const TensorApi* tensors,
               QueueOutlook* outlook)
    : options_(options), jobs_(jobs), tensors_(tensors), outlook_(outlook) {}

absl::StatusOr<v1::Job> JobApi::CreateJob(const access::Caller& caller,
                                          const v1::CreateJobRequest& request,
                                          const JobOrigin& origin) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  if (!request.has_job()) return FieldError("job", "must be given, got none");
  ATTNPRUNE_ASSIGN_OR_RETURN(CheckedJob checked,
                             CheckJob(request.job(), options_.limits.max_tensor_bytes()));
  const v1::Estimate estimate = EstimateJob(checked, options_.rate, options_.max_job_memory_bytes);
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckMemory("job", estimate.memory_bytes(), options_.max_job_memory_bytes));
  if (request.validate_only()) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckStoredSizes(caller, checked.Tensors(), *tensors_));
    *checked.job.mutable_estimate() = estimate;
    return std::move(checked.job);
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckStored(caller, checked.Tensors(), *tensors_));
  NewJob job = MakeNewJob(checked, request.request_id(), estimate);
  job.tenant = caller.tenant;
  job.origin = origin;
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, Store(job, jobs_, options_.retry_after));
  return QueueGlance(outlook_, caller).JobOf(record);
}

absl::StatusOr<v1::Job> JobApi::GetJob(const access::Caller& caller, absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseJobName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, GetSeen(caller, jobs_, id));
  return QueueGlance(outlook_, caller).JobOf(record);
}

absl::StatusOr<v1::ListJobsResponse> JobApi::ListJobs(const access::Caller& caller,
                                                      const v1::ListJobsRequest& request) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(ListQuery query, ListQueryOf(request, JobKind::kMethods));
  query.filter.tenant = SeenTenant(caller);
  return ListPages(query, [&](int page_size) -> absl::StatusOr<v1::ListJobsResponse> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobPage page,
                               jobs_->List(query.filter, page_size, query.page_token));
    v1::ListJobsResponse response;
    QueueGlance queue(outlook_, caller);
    for (const JobRecord& record : page.jobs) {
      ATTNPRUNE_ASSIGN_OR_RETURN(*response.add_jobs(), queue.JobOf(record));
    }
    response.set_next_page_token(page.next_page_token);
    return response;
  });
}

absl::StatusOr<v1::Job> JobApi::CancelJob(const access::Caller& caller,
                                          absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseJobName(name));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSeen(caller, jobs_, id));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs_->RequestCancel(id));
  return ToProto(record);
}

absl::Status JobApi::DeleteJob(const access::Caller& caller, absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseJobName(name));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSeen(caller, jobs_, id));
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
