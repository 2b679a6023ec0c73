#include "client/cli/save_results.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/job_flags.h"
#include "client/cli/output_check.h"
#include "client/cli/pruned_files.h"
#include "client/cli/result_table.h"
#include "client/library/digest.h"
#include "core/base/status_macros.h"
#include "core/tensor/checkpoint.h"

namespace attnprune::cli {
namespace {

constexpr char kMethod[] = "{method}";

std::vector<v1::TensorRef> WeightsOf(const v1::Problem& problem) {
  if (problem.has_projections()) return {problem.projections().w_q(), problem.projections().w_k()};
  const v1::FusedProblem& fused = problem.fused();
  if (fused.has_weight()) return {fused.weight()};
  return {fused.q_factor(), fused.k_factor()};
}

// FAILED_PRECONDITION or NOT_FOUND if the file is not the one that the job's weights came from.
absl::Status CheckSource(const v1::Job& job, const std::string& source) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint file, Checkpoint::Open(source));
  for (const v1::TensorRef& weight : WeightsOf(job.problem())) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, file.Find(weight.name()));
    if (client::DigestOf(tensor->bytes) == weight.sha256()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        tensor->file, ": tensor ", weight.name(), " is not the one that ", job.name(), " pruned"));
  }
  return absl::OkStatus();
}

// Where the job's label points, if that is still there; else empty, with a note.
std::string LabelledSource(const Shell& shell, const v1::Job& job) {
  const auto label = job.labels().find(kWeightsLabel);
  absl::Status status = absl::NotFoundError("the job does not say where its weights came from");
  if (label != job.labels().end()) status = CheckSource(job, label->second);
  if (status.ok()) return label->second;
  Note(shell, absl::StrCat("note: only the pruned tensors are written, as ", status.message(),
                           "; name the file with --weights or --model"));
  return "";
}

int SaveOne(const Shell& shell, std::ostream& told, client::Client& client,
            const v1::MethodResult& result, const SaveFlags& flags) {
  const auto tensors = DownloadPruned(client, result);
  if (!tensors.ok()) return ServerError(shell, tensors.status());
  if (!flags.output.empty()) {
    const auto files =
        WritePruned(*tensors, flags.source, WithMethod(flags.output, result.method()));
    if (!files.ok()) return LocalError(shell, files.status());
    for (const std::string& file : *files) {
      told << "weights of " << result.method() << ": " << file << "\n";
    }
  }
  if (!flags.masks.empty()) {
    const std::string file = WithMethod(flags.masks, result.method());
    const absl::Status written = WriteMasks(*tensors, file);
    if (!written.ok()) return LocalError(shell, written);
    told << "masks of " << result.method() << ": " << file << "\n";
  }
  return kDone;
}

int SaveEach(const Shell& shell, std::ostream& told, client::Client& client, const v1::Job& job,
             const SaveFlags& flags) {
  for (const v1::MethodResult* result : BestFirst(job)) {
    if (result->has_failure()) continue;
    const int code = SaveOne(shell, told, client, *result, flags);
    if (code != kDone) return code;
  }
  return kDone;
}

}  // namespace

std::string WithMethod(const std::string& text, const std::string& method) {
  return absl::StrReplaceAll(text, {{kMethod, method}});
}

int SaveResults(const Shell& shell, std::ostream& told, client::Client& client, const v1::Job& job,
                const SaveFlags& flags) {
  if (flags.output.empty() && flags.masks.empty()) return kDone;
  SaveFlags known = flags;
  if (known.source.empty()) {
    known.source = LabelledSource(shell, job);
  } else if (const absl::Status fits = CheckSource(job, known.source); !fits.ok()) {
    return UsageError(shell, fits);
  }
  const Outputs outputs = OutputsOf(flags.output, flags.masks, known.source);
  if (const absl::Status safe = CheckOutputs(outputs, FilesOf(known.source)); !safe.ok()) {
    return UsageError(shell, safe);
  }
  const auto result = ResultOf(job, flags.method);
  if (!result.ok()) return LocalError(shell, result.status());
  if (!flags.method.empty()) return SaveOne(shell, told, client, **result, known);

  // What has {method} in its name is written for each method, what has not for the best.
  SaveFlags each = known, best = known;
  (absl::StrContains(flags.output, kMethod) ? best : each).output.clear();
  (absl::StrContains(flags.masks, kMethod) ? best : each).masks.clear();
  if (!best.output.empty() || !best.masks.empty()) {
    const int code = SaveOne(shell, told, client, **result, best);
    if (code != kDone) return code;
  }
  if (each.output.empty() && each.masks.empty()) return kDone;
  return SaveEach(shell, told, client, job, each);
}

}  // namespace attnprune::cli
