#include "server/execution/open_run.h"

#include <vector>

#include "core/base/status_macros.h"
#include "server/execution/tensor_files.h"

namespace attnprune {
namespace {

absl::StatusOr<std::unique_ptr<Forward>> OpenModel(ClaimedJob& job, const RunSpec& spec,
                                                   ThreadPool& pool) {
  std::vector<MappedFile> files;
  for (const JobTensor& tensor : spec.tensors) {
    ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
    ATTNPRUNE_RETURN_IF_ERROR(VerifyTensor(job.tensors(), tensor));
    ATTNPRUNE_ASSIGN_OR_RETURN(MappedFile file, MapTensor(*job.tensors(), tensor));
    files.push_back(std::move(file));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(ModelWeights model, ModelOf(spec, std::move(files)));
  return Forward::Create(std::move(model), pool);
}

absl::StatusOr<Tokens> ReadTokens(ClaimedJob& job, const RunTokens& tokens) {
  if (!tokens.given()) return Tokens();
  ATTNPRUNE_RETURN_IF_ERROR(VerifyTensor(job.tensors(), tokens.ids));
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MapTensor(*job.tensors(), tokens.ids));
  absl::StatusOr<Tokens> read = TokensOf(tokens, file.bytes());
  ATTNPRUNE_RETURN_IF_ERROR(CheckRead(tokens.ids, file));
  return read;
}

}  // namespace

absl::StatusOr<std::unique_ptr<OpenRun>> OpenRun::Open(ClaimedJob& job, const v1::Run& message) {
  ATTNPRUNE_ASSIGN_OR_RETURN(RunSpec spec, DecodeRun(message));
  auto run = std::make_unique<OpenRun>(std::move(spec), job.options().threads);
  ATTNPRUNE_ASSIGN_OR_RETURN(run->forward, OpenModel(job, run->spec, run->pool));
  ATTNPRUNE_ASSIGN_OR_RETURN(run->rows.calibration, ReadTokens(job, run->spec.calibration));
  ATTNPRUNE_ASSIGN_OR_RETURN(run->rows.held_out, ReadTokens(job, run->spec.held_out));
  run->rows = HoldOutRows(run->spec, std::move(run->rows));
  ATTNPRUNE_RETURN_IF_ERROR(run->forward->Check(run->rows.calibration));
  ATTNPRUNE_RETURN_IF_ERROR(run->forward->Check(run->rows.held_out));
  const RunMachine machine{.memory_budget = job.options().memory_budget_bytes,
                           .threads = job.options().threads};
  ATTNPRUNE_ASSIGN_OR_RETURN(
      run->plan, MakePlan(run->spec, run->forward->weights(), run->rows.calibration.lengths,
                          run->rows.held_out.lengths, machine));
  return run;
}

}  // namespace attnprune
