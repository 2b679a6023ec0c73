// The attention losses that a search is made of: by parts to learn from, apart to decide by, and of
// the held-out batches to report only.
#ifndef ATTNPRUNE_CORE_METHODS_SEARCH_OBJECTIVES_H_
#define ATTNPRUNE_CORE_METHODS_SEARCH_OBJECTIVES_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/methods/method.h"
#include "core/objective/attention_objective.h"
#include "core/objective/prepared_problem.h"
#include "core/problem/problem.h"

namespace attnprune {

enum class SearchedWeights {
  kAttention,  // those of AttentionWeights()
  kFactors,    // "w_q" and "w_k" of a fused problem
};
// What LinearMaps gave as `weights`.
SearchedWeights SearchedOf(const Problem& problem, const std::vector<NamedWeight>& weights);

// The prepared problem must outlive it. Parts have a dense attention of their own; the problem's is
// released for it, and used where one part is all of the batches. One caller at a time.
class SearchObjectives {
 public:
  // Errors: those of PreparedProblem::Calibration and of Batches::Pick.
  static absl::StatusOr<std::unique_ptr<SearchObjectives>> Create(PreparedProblem& prepared,
                                                                  SearchedWeights searched,
                                                                  double validation_fraction,
                                                                  Index batches_per_step);

  // What step number `step` (from 0) learns from.
  LossFunction& PartOf(int step) { return PartAt(step).loss(); }
  Index BatchesOf(int step) { return PartAt(step).count; }

  // Equation (1) on the batches that decide; on all calibration batches.
  double ValidationError(absl::Span<const MatrixView> weights);
  double CalibrationError(absl::Span<const MatrixView> weights);
  // sum ||f||^2 over all calibration batches.
  double dense_norm_squared() const;

  // Fills in the errors of `weights` for a report: calibration and, if there are such batches,
  // held-out.
  absl::Status Report(absl::Span<const MatrixView> weights, StepStats& stats);

 private:
  // Some of the calibration batches, or all.
  struct Part {
    Index count = 0;
    std::unique_ptr<Batches> batches = nullptr;  // copies, next to each other; null: all of them
    std::unique_ptr<AttentionObjective> owned = nullptr;  // of the copies
    std::unique_ptr<FactoredObjective> in_factors = nullptr;
    LossFunction* attention = nullptr;

    LossFunction& loss() const { return in_factors != nullptr ? *in_factors : *attention; }
  };

  SearchObjectives(PreparedProblem& prepared, SearchedWeights searched)
      : prepared_(prepared), searched_(searched) {}
  absl::StatusOr<Part> MakePart(absl::Span<const Index> picked);
  Part& PartAt(int step) { return fit_[static_cast<size_t>(step) % fit_.size()]; }

  PreparedProblem& prepared_;
  const SearchedWeights searched_;
  std::vector<Part> fit_;
  absl::optional<Part> validation_;  // none: what is learned from decides
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SEARCH_OBJECTIVES_H_
