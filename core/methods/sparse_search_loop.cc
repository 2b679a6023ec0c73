#include "core/methods/sparse_search_loop.h"

#include <chrono>
#include <vector>

#include "core/base/status_macros.h"

namespace attnprune {
namespace {

using Clock = std::chrono::steady_clock;

absl::StatusOr<StepStats> Stats(const SparseSearch& search, const SparseSearch::Figures& figures,
                                SearchObjectives& objectives, int evaluate_every,
                                Clock::time_point start) {
  StepStats stats;
  stats.step = search.steps_taken();
  stats.steps = search.plan().steps;
  stats.attention_loss = figures.loss;
  stats.soft_relative_error = figures.relative_error;
  stats.gradient_norm = figures.gradient_norm;
  const bool due =
      evaluate_every > 0 && (stats.step == stats.steps || stats.step % evaluate_every == 0);
  if (due) {
    const std::vector<Matrix> weights = search.Candidate();
    ATTNPRUNE_RETURN_IF_ERROR(
        objectives.Report(std::vector<MatrixView>(weights.begin(), weights.end()), stats));
  }
  stats.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return stats;
}

}  // namespace

absl::StatusOr<TerminationReason> RunSparseSearch(SparseSearch& search,
                                                  SearchObjectives& objectives,
                                                  const RunOptions& options,
                                                  ProgressObserver& observer) {
  if (!search.PrunesAnything()) return TerminationReason::kCompleted;
  const Clock::time_point start = Clock::now();
  while (search.steps_taken() < search.plan().steps) {
    const SparseSearch::Figures figures = search.Evaluate();
    if (!figures.finite) return TerminationReason::kNumericalError;
    search.Step();
    ATTNPRUNE_ASSIGN_OR_RETURN(const StepStats stats,
                               Stats(search, figures, objectives, options.evaluate_every, start));
    const Verdict verdict = observer.OnStep(stats, search);
    if (verdict == Verdict::kStop && stats.step < stats.steps) {
      search.UpdateIncumbent();
      return TerminationReason::kStopped;
    }
  }
  return TerminationReason::kCompleted;
}

}  // namespace attnprune
