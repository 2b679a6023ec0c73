#include "server/execution/run_sampling.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/status_macros.h"
#include "core/model/sampler.h"
#include "core/model/tokens.h"
#include "server/execution/block_run.h"
#include "server/execution/own_blobs.h"
#include "server/execution/run_checkpoint.h"
#include "server/execution/run_progress.h"

namespace attnprune {
namespace {

absl::StatusOr<Tokens> ReadSampledRows(ClaimedJob& job, const OpenRun& run,
                                       const v1::TensorRef& stored) {
  Tokens rows;
  rows.lengths = SampledLengths(run.rows.calibration.lengths, run.spec.sampled->rows);
  std::vector<int32_t> ids(static_cast<size_t>(stored.shape(0)));
  const absl::Status status =
      ReadOwnBlob(job, stored.sha256(), /*tail=*/"", MutableBytesOf(absl::MakeSpan(ids)));
  if (absl::IsCancelled(status)) return status;
  if (!status.ok()) return absl::DataLossError(absl::StrCat("sampled rows: ", status.message()));
  rows.ids.assign(ids.begin(), ids.end());
  return rows;
}

// From where an earlier attempt had them, to their end. Saves them on the way.
absl::StatusOr<Tokens> Sample(ClaimedJob& job, OpenRun& run, RunProgress& progress,
                              RunCheckpoint& checkpoint) {
  const SampledChoice& choice = *run.spec.sampled;
  const SampleOptions options = {.rows = choice.rows,
                                 .temperature = choice.temperature,
                                 .prefix = choice.prefix,
                                 .seed = run.spec.seed,
                                 .memory_budget = job.options().memory_budget_bytes};
  SampledSoFar so_far = checkpoint.TakeSampled();
  const PassListener tell = ListenerOf(job, progress);
  const auto listener = [&](double share) {
    checkpoint.SaveSampled(so_far);
    return tell(share);
  };
  const bool resumes = !so_far.empty();
  absl::StatusOr<Tokens> rows =
      SampleRows(*run.forward, run.rows.calibration, options, listener, &so_far);
  if (!resumes || !absl::IsInvalidArgument(rows.status())) return rows;
  job.writer().AddWarning(
      absl::StrCat("rows that were saved: ", rows.status().message(), "; that work starts over"));
  so_far.clear();
  return SampleRows(*run.forward, run.rows.calibration, options, listener, &so_far);
}

absl::StatusOr<Tokens> WriteSampledRows(ClaimedJob& job, OpenRun& run, RunResults& results) {
  RunPace pace;
  RunProgress progress(job, run.plan, pace);
  progress.Begin(v1::SAMPLING, 0, run.plan.sample_operations, {});
  RunCheckpoint checkpoint(job);
  checkpoint.Read();
  ATTNPRUNE_ASSIGN_OR_RETURN(Tokens rows, Sample(job, run, progress, checkpoint));
  progress.End();
  const std::vector<int32_t> ids(rows.ids.begin(), rows.ids.end());
  v1::RunResult result;
  result.set_block(static_cast<int>(run.plan.blocks.size()));
  v1::TensorRef& stored = *result.mutable_sampled_rows();
  ATTNPRUNE_ASSIGN_OR_RETURN(*stored.mutable_sha256(), job.Put(BytesOf<int32_t>(ids)));
  stored.set_dtype(v1::I32);
  stored.add_shape(std::ssize(ids));
  ATTNPRUNE_RETURN_IF_ERROR(results.Store(result, {stored.sha256()}, absl::nullopt));
  return rows;
}

}  // namespace

absl::Status AddSampledRows(ClaimedJob& job, OpenRun& run, RunResults& results) {
  const v1::TensorRef* const stored = results.sampled_rows();
  ATTNPRUNE_ASSIGN_OR_RETURN(const Tokens rows, stored != nullptr
                                                    ? ReadSampledRows(job, run, *stored)
                                                    : WriteSampledRows(job, run, results));
  Tokens& all = run.rows.calibration;
  all.ids.insert(all.ids.end(), rows.ids.begin(), rows.ids.end());
  all.lengths.insert(all.lengths.end(), rows.lengths.begin(), rows.lengths.end());
  return absl::OkStatus();
}

}  // namespace attnprune
