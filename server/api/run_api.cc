#include "server/api/run_api.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/model/forward.h"
#include "server/api/record_convert.h"
#include "server/api/request_check.h"
#include "server/api/submission.h"
#include "server/execution/run_plan.h"
#include "server/execution/run_spec.h"
#include "server/execution/tensor_files.h"

namespace attnprune::api {
namespace {

// Of a machine's best rate of products: what a run's passes and methods reach together.
constexpr double kRunRate = 0.6;

absl::StatusOr<Tokens> ReadTokens(const RunTokens& tokens, const ModelWeights& model,
                                  const BlobStore& blobs) {
  if (!tokens.given()) return Tokens();
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MapTensor(blobs, tokens.ids));
  ATTNPRUNE_ASSIGN_OR_RETURN(Tokens read, TokensOf(tokens, file.bytes()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRead(tokens.ids, file));
  const absl::Status fits = CheckTokens(model, read);
  if (fits.ok()) return read;
  return WithField(absl::InvalidArgumentError(absl::StrCat(tokens.ids.field, ": ", fits.message())),
                   tokens.ids.field);
}

// Rows of one token alike say nothing of a map's inputs.
absl::Status CheckTokensDiffer(const RunTokens& tokens, const std::vector<int64_t>& ids) {
  const bool alike = std::all_of(ids.begin(), ids.end(), [&](int64_t id) { return id == ids[0]; });
  if (!alike) return absl::OkStatus();
  return MustError(tokens.ids.field, "have tokens that differ",
                   absl::StrCat(ids.size(), " times ", ids[0]));
}

// Every mask leaves the attention of tokens that are all alike as it is.
absl::Status CheckRowsDiffer(const RunTokens& tokens, const std::vector<int64_t>& ids) {
  auto row = ids.begin();
  for (size_t i = 0; i < tokens.lengths.size(); ++i) {
    const auto end = row + tokens.lengths[i];
    if (std::all_of(row, end, [&](int64_t id) { return id == *row; })) {
      return MustError(tokens.ids.field,
                       "have tokens that differ in every row where run.attention_method is given",
                       absl::StrCat("row ", i, " of ", tokens.lengths[i], " times ", *row));
    }
    row = end;
  }
  return absl::OkStatus();
}

v1::RunEstimate EstimateOf(const RunPlan& plan, const JobApiOptions& options) {
  v1::RunEstimate estimate;
  estimate.set_memory_bytes(static_cast<int64_t>(plan.memory_bytes));
  estimate.set_disk_bytes(static_cast<int64_t>(plan.disk_bytes));
  estimate.set_seconds(plan.operations / (kRunRate * options.rate.flops_per_second));
  return estimate;
}

}  // namespace

absl::StatusOr<v1::Run> RunApi::CreateRun(const v1::CreateRunRequest& request,
                                          const JobOrigin& origin) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  if (!request.has_run()) return FieldError("run", "must be given, got none");
  v1::Run run = request.run();
  ClearOutput(run);
  ATTNPRUNE_RETURN_IF_ERROR(CheckCommon(run));
  ATTNPRUNE_ASSIGN_OR_RETURN(const RunSpec spec,
                             DecodeRun(run, options_.limits.max_tensor_bytes()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckTensorNames(spec.Tensors()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckStoredBytes("run", run.ByteSizeLong()));
  ATTNPRUNE_ASSIGN_OR_RETURN(const ModelWeights model, ModelOf(spec, {}));
  ATTNPRUNE_RETURN_IF_ERROR(CheckStored(spec.Tensors(), tensors_));
  RunRows rows;
  ATTNPRUNE_ASSIGN_OR_RETURN(rows.calibration, ReadTokens(spec.calibration, model, *tensors_));
  ATTNPRUNE_RETURN_IF_ERROR(CheckTokensDiffer(spec.calibration, rows.calibration.ids));
  ATTNPRUNE_ASSIGN_OR_RETURN(rows.held_out, ReadTokens(spec.held_out, model, *tensors_));
  if (spec.attention_method.has_value()) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckRowsDiffer(spec.calibration, rows.calibration.ids));
    ATTNPRUNE_RETURN_IF_ERROR(CheckRowsDiffer(spec.held_out, rows.held_out.ids));
  }
  rows = HoldOutRows(spec, std::move(rows));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const RunPlan plan,
      MakePlan(spec, model, rows.calibration.lengths, rows.held_out.lengths,
               {.memory_budget = options_.max_job_memory_bytes, .threads = options_.rate.threads}));
  const v1::RunEstimate estimate = EstimateOf(plan, options_);
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckMemory("run", estimate.memory_bytes(), options_.max_job_memory_bytes));

  NewJob job = NewJobOf(run, request.request_id());
  *run.mutable_estimate() = estimate;
  run.set_results_total(plan.results);
  if (request.validate_only()) return run;
  job.kind = JobKind::kRun;
  job.spec = DeterministicBytes(run);
  job.tensor_digests = UniqueDigests(spec.Tensors());
  job.origin = origin;
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, Store(job, jobs_, options_.retry_after));
  return QueueGlance(outlook_).RunOf(record);
}

absl::StatusOr<v1::Run> RunApi::GetRun(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseRunName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs_->Get(id));
  return QueueGlance(outlook_).RunOf(record);
}

absl::StatusOr<v1::ListRunsResponse> RunApi::ListRuns(const v1::ListRunsRequest& request) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const ListQuery query, ListQueryOf(request, JobKind::kRun));
  return ListPages(query, [&](int page_size) -> absl::StatusOr<v1::ListRunsResponse> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobPage page,
                               jobs_->List(query.filter, page_size, query.page_token));
    v1::ListRunsResponse response;
    QueueGlance queue(outlook_);
    for (const JobRecord& record : page.jobs) {
      v1::Run& run = *response.add_runs();
      ATTNPRUNE_ASSIGN_OR_RETURN(run, queue.RunOf(record));
      run.clear_results();
      run.mutable_model()->clear_tensors();
    }
    response.set_next_page_token(page.next_page_token);
    return response;
  });
}

absl::StatusOr<v1::Run> RunApi::CancelRun(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseRunName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs_->RequestCancel(id));
  return RunToProto(record);
}

absl::StatusOr<v1::Run> RunApi::ResumeRun(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseRunName(name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord record, jobs_->Resume(id));
  return QueueGlance(outlook_).RunOf(record);
}

absl::Status RunApi::DeleteRun(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ParseRunName(name));
  return jobs_->Delete(id);
}

}  // namespace attnprune::api
