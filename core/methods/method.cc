#include "core/methods/method.h"

#include <chrono>
#include <cmath>
#include <memory>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/methods/linear_map.h"

namespace attnprune {
namespace {

class Unobserved final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats&, const Resumable&) override { return Verdict::kContinue; }
};

absl::Status CheckOptions(const RunOptions& options) {
  if (options.evaluate_every < 0) {
    return MustError("evaluate_every", "be at least 0", options.evaluate_every);
  }
  return absl::OkStatus();
}

absl::Status Broken(absl::string_view method, const PrunedMatrix& matrix, absl::string_view what) {
  return absl::InternalError(absl::StrCat(method, " broke a promise: ", matrix.name, " ", what));
}

absl::Status CheckMatrix(const Method& method, const NamedWeight& weight,
                         const PrunedMatrix& matrix, const Sparsity& sparsity) {
  const MatrixView dense = weight.dense;
  const bool fits = matrix.name == weight.name && matrix.mask.rows() == dense.rows() &&
                    matrix.mask.cols() == dense.cols() && matrix.weights.rows() == dense.rows() &&
                    matrix.weights.cols() == dense.cols();
  if (!fits) return Broken(method.name(), matrix, "has not the shape of the dense weights");
  const Index asked = method.PrunedCount(weight, sparsity), got = matrix.mask.CountPruned();
  if (asked != got) {
    return Broken(method.name(), matrix,
                  absl::StrCat("must have ", asked, " pruned weights, got ", got));
  }
  if (!matrix.mask.Masks(matrix.weights)) {
    return Broken(method.name(), matrix, "has a weight that is not finite, or pruned and not 0");
  }
  return absl::OkStatus();
}

absl::Status CheckResult(const Method& method, const std::vector<NamedWeight>& weights,
                         const Sparsity& sparsity, const PruneResult& result) {
  if (weights.size() != result.matrices.size()) {
    return absl::InternalError(absl::StrCat(method.name(), " gave ", result.matrices.size(),
                                            " matrices for ", weights.size()));
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckMatrix(method, weights[i], result.matrices[i], sparsity));
  }
  return absl::OkStatus();
}

absl::Status OutOfMemory(absl::string_view method, absl::string_view what) {
  return absl::ResourceExhaustedError(
      absl::StrCat(method, " needs more memory than there is for ", what));
}

}  // namespace

std::string Resumable::SaveState() const {
  std::string state;
  AppendState(&state);
  return state;
}

absl::string_view ToString(TerminationReason reason) {
  switch (reason) {
    case TerminationReason::kCompleted:
      return "completed";
    case TerminationReason::kGradientTolerance:
      return "gradient tolerance";
    case TerminationReason::kLossTolerance:
      return "loss tolerance";
    case TerminationReason::kStopped:
      return "stopped";
    case TerminationReason::kNumericalError:
      return "numerical error";
  }
  return "unknown";
}

absl::StatusOr<PruneResult> Method::PruneInMemory(PreparedProblem& problem, RunOptions& options,
                                                  ProgressObserver& observer) const {
  try {
    return DoPrune(problem, options, observer);
  } catch (const std::bad_alloc&) {
    return OutOfMemory(
        name(), absl::StrCat(problem.problem().calibration.total_tokens(), " calibration tokens"));
  }
}

absl::StatusOr<PruneResult> Method::Prune(PreparedProblem& problem, RunOptions options,
                                          ProgressObserver& observer) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckOptions(options));
  const auto start = std::chrono::steady_clock::now();
  ATTNPRUNE_ASSIGN_OR_RETURN(PruneResult result, PruneInMemory(problem, options, observer));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  result.seconds = elapsed.count();
  const std::vector<NamedWeight> pruned = PrunedMaps(problem.problem(), result);
  ATTNPRUNE_RETURN_IF_ERROR(CheckResult(*this, pruned, problem.problem().sparsity, result));
  return result;
}

absl::StatusOr<PruneResult> Method::PruneLinear(const LinearProblem& problem, ThreadPool& pool,
                                                RunOptions options,
                                                ProgressObserver& observer) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckOptions(options));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(problem));
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<PruneResult> pruned;
  try {
    pruned = DoPruneLinear(problem, pool, options, observer);
  } catch (const std::bad_alloc&) {
    pruned = OutOfMemory(name(), absl::StrCat(problem.inputs.moments().size(), " inputs"));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(PruneResult result, std::move(pruned));
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  result.seconds = elapsed.count();
  ATTNPRUNE_RETURN_IF_ERROR(CheckResult(*this, problem.maps, problem.sparsity, result));
  return result;
}

absl::StatusOr<PruneResult> Method::PruneLinear(const LinearProblem& problem,
                                                ThreadPool& pool) const {
  Unobserved unobserved;
  return PruneLinear(problem, pool, {}, unobserved);
}

absl::StatusOr<PruneResult> Method::DoPruneLinear(const LinearProblem&, ThreadPool&, RunOptions&,
                                                  ProgressObserver&) const {
  return FieldError("method", absl::StrCat("must be one for linear maps, which ", name(),
                                           " is not: it needs an attention"));
}

absl::StatusOr<PruneResult> Method::Prune(PreparedProblem& problem, RunOptions options) const {
  Unobserved unobserved;
  return Prune(problem, std::move(options), unobserved);
}

absl::StatusOr<PruneResult> Method::Prune(const Problem& problem, RunOptions options,
                                          ProgressObserver& observer,
                                          const PrepareOptions& prepare) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<PreparedProblem> prepared,
                             PreparedProblem::Create(problem, prepare));
  return Prune(*prepared, std::move(options), observer);
}

absl::StatusOr<PruneResult> Method::Prune(const Problem& problem, RunOptions options,
                                          const PrepareOptions& prepare) const {
  Unobserved unobserved;
  return Prune(problem, std::move(options), unobserved, prepare);
}

Index Method::PrunedCount(const NamedWeight& weight, const Sparsity& sparsity) const {
  return sparsity.PrunedOf(weight.dense.size());
}

}  // namespace attnprune
