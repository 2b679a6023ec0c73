#include "client/cli/files/save_results.h"

#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/files/fused_tensors.h"
#include "client/cli/files/output_check.h"
#include "client/cli/files/pruned_files.h"
#include "client/cli/shell/printable.h"
#include "client/cli/views/result_table.h"
#include "client/export/path_part.h"
#include "core/base/status_macros.h"
#include "core/io/checkpoint.h"

namespace attnprune::cli {
namespace {

constexpr char kMethod[] = "{method}";

std::vector<v1::TensorRef> WeightsOf(const v1::Problem& problem) {
  if (problem.has_projections()) return {problem.projections().w_q(), problem.projections().w_k()};
  const v1::FusedProblem& fused = problem.fused();
  if (fused.has_weight()) return {fused.weight()};
  return {fused.q_factor(), fused.k_factor()};
}

// FAILED_PRECONDITION or NOT_FOUND if the source, opened from `path`, is not where the job's
// weights came from.
absl::Status CheckSource(const v1::Job& job, const Checkpoint& source, const std::string& path) {
  for (const v1::TensorRef& weight : WeightsOf(job.problem())) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string digest, DigestOf(source, path, weight.name()));
    if (digest == weight.sha256()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": tensor ", weight.name(), " is not the one that ", job.name(), " pruned"));
  }
  return absl::OkStatus();
}

absl::Status CheckSourceFile(const v1::Job& job, const std::string& source) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint file, Checkpoint::Open(source));
  return CheckSource(job, file, source);
}

// Where the job's label points, if that is still there; else empty, with a note.
std::string LabelledSource(const Shell& shell, const v1::Job& job) {
  const auto label = job.labels().find(kWeightsLabel);
  absl::Status status = absl::NotFoundError("the job does not say where its weights came from");
  if (label != job.labels().end()) status = CheckSourceFile(job, label->second);
  if (status.ok()) return label->second;
  Note(shell, absl::StrCat("note: only the pruned tensors are written, as ", status.message(),
                           "; name the file with --weights or --model"));
  return "";
}

bool WantsFiles(const SaveFlags& flags) { return !flags.output.empty() || !flags.masks.empty(); }

SaveFlags OfMethod(SaveFlags flags, const std::string& method) {
  flags.method = method;
  flags.output = WithMethod(flags.output, method);
  flags.masks = WithMethod(flags.masks, method);
  return flags;
}

// Of SaveByMethod.
std::vector<SaveFlags> CallsOf(const SaveFlags& flags, const std::vector<std::string>& methods) {
  if (!flags.method.empty()) return {OfMethod(flags, flags.method)};
  SaveFlags each = flags, best = flags;
  (absl::StrContains(flags.output, kMethod) ? best : each).output.clear();
  (absl::StrContains(flags.masks, kMethod) ? best : each).masks.clear();
  std::vector<SaveFlags> calls;
  if (WantsFiles(best)) calls.push_back(best);
  if (!WantsFiles(each)) return calls;
  for (const std::string& method : methods) calls.push_back(OfMethod(each, method));
  return calls;
}

absl::Status CheckAllOutputs(const std::vector<SaveFlags>& calls,
                             const std::vector<std::string>& inputs,
                             const std::vector<std::string>& ours) {
  Outputs all;
  for (const SaveFlags& call : calls) {
    for (const Output& output : OutputsOf(call.output, call.masks, call.source)) {
      all.push_back(output);
    }
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckOutputs(all, inputs));
  const bool overwrite = !calls.empty() && calls.front().overwrite;
  return overwrite ? absl::OkStatus() : CheckKeepsOtherMethods(all, ours);
}

// A file could not be written, or was not because of an interrupt.
int WriteError(const Shell& shell, const absl::Status& status) {
  return absl::IsCancelled(status) ? Interrupted(shell) : LocalError(shell, status);
}

// The files that the flags name, of one method; tells each on `told`. Returns an exit code.
int WriteFiles(const Shell& shell, std::ostream& told, const std::vector<PrunedTensor>& pruned,
               const std::string& method, const SaveFlags& flags) {
  std::vector<PrunedTensor> tensors = pruned;
  if (!flags.source.empty()) {
    ATTNPRUNE_ASSIGN_OR_EXIT(LocalError, tensors, JoinParts(std::move(tensors), flags.source));
  }
  if (!flags.output.empty()) {
    ATTNPRUNE_ASSIGN_OR_EXIT(WriteError, const WrittenFiles written,
                             WritePruned(tensors, method, flags.source, flags.output,
                                         [&shell] { return shell.interrupt.stop_requested(); }));
    for (const std::string& file : written.files) {
      told << "weights of " << Printable(method) << ": " << Printable(file) << "\n";
    }
    for (const std::string& note : written.notes) Note(shell, absl::StrCat("note: ", note));
  }
  if (!flags.masks.empty()) {
    if (shell.interrupt.stop_requested()) return Interrupted(shell);
    ATTNPRUNE_EXIT_IF_ERROR(LocalError, WriteMasks(tensors, method, flags.masks));
    told << "masks of " << Printable(method) << ": " << flags.masks << "\n";
  }
  return kDone;
}

int SaveOne(const Shell& shell, std::ostream& told, client::Client& client, const v1::Job& job,
            const SaveFlags& flags) {
  ATTNPRUNE_ASSIGN_OR_EXIT(LocalError, const v1::MethodResult* const result,
                           ResultOf(job, flags.method));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const std::vector<PrunedTensor> tensors,
                           DownloadPruned(client, *result));
  return WriteFiles(shell, told, tensors, result->method(), flags);
}

// One call of `save` for the files whose names have no {method}, then one with flags.method set for
// each of `methods`, for those whose names have it, filled in. With flags.method given: one call
// for that. None, and kUsage told, if CheckOutputs refuses a file of any of them, or
// CheckKeepsOtherMethods, with `ours`, those whose results may be replaced. Stops at the first exit
// code that is not kDone and returns it.
int SaveByMethod(const Shell& shell, const SaveFlags& flags,
                 const std::vector<std::string>& methods, const std::vector<std::string>& ours,
                 const std::function<int(const SaveFlags&)>& save) {
  const std::vector<SaveFlags> calls = CallsOf(flags, methods);
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckAllOutputs(calls, FilesOf(flags.source), ours));
  int code = kDone;
  for (const SaveFlags& call : calls) {
    if (code == kDone) code = save(call);
  }
  return code;
}

}  // namespace

SaveFlags SaveFlagsOf(const JobFlags& job) {
  return {.method = {},
          .output = job.output,
          .masks = job.save_mask,
          .source = job.model.empty() ? job.weights : job.model,
          .overwrite = job.overwrite};
}

std::string WithMethod(const std::string& text, const std::string& method) {
  return absl::StrReplaceAll(text, {{kMethod, exporting::PathPart(method)}});
}

int SaveResults(const Shell& shell, std::ostream& told, client::Client& client, const v1::Job& job,
                const SaveFlags& flags) {
  if (!WantsFiles(flags)) return kDone;
  ATTNPRUNE_EXIT_IF_ERROR(LocalError, ResultOf(job, flags.method).status());
  SaveFlags known = flags;
  if (known.source.empty()) {
    known.source = LabelledSource(shell, job);
  } else {
    ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckSourceFile(job, known.source));
  }
  std::vector<std::string> methods, ours;
  for (const v1::MethodResult* result : BestFirst(job)) {
    if (!result->has_failure()) methods.push_back(result->method());
    if (flags.method.empty() || flags.method == result->method()) ours.push_back(result->method());
  }
  return SaveByMethod(shell, known, methods, ours,
                      [&](const SaveFlags& one) { return SaveOne(shell, told, client, job, one); });
}

}  // namespace attnprune::cli
