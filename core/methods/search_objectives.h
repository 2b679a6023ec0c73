// The attention losses that a search is made of: by parts to learn from, apart to decide by, and of
// the held-out batches to report only.
#ifndef ATTNPRUNE_CORE_METHODS_SEARCH_OBJECTIVES_H_
#define ATTNPRUNE_CORE_METHODS_SEARCH_OBJECTIVES_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/methods/calibration_split.h"
#include "core/methods/method.h"
#include "core/objective/attention_objective.h"

namespace attnprune {

enum class SearchedWeights {
  kAttention,  // those of AttentionWeights()
  kFactors,    // "w_q" and "w_k" of a fused problem
};

// One caller at a time. The problem and the pool must outlive it.
class SearchObjectives {
 public:
  // Errors: AttentionObjective::Create's, naming `calibration`.
  static absl::StatusOr<std::unique_ptr<SearchObjectives>> Create(
      const Problem& problem, SearchedWeights searched, double validation_fraction,
      Index batches_per_step, ThreadPool& pool, DenseAttention attention);

  // What step number `step` (from 0) learns from.
  AttentionObjective& PartOf(int step) { return *fit_[static_cast<size_t>(step) % fit_.size()]; }
  Index BatchesOf(int step) const {
    return split_.fit[static_cast<size_t>(step) % fit_.size()].count();
  }

  // Equation (1) on the batches that decide; on all calibration batches.
  double ValidationError(absl::Span<const MatrixView> weights);
  double CalibrationError(absl::Span<const MatrixView> weights);
  // sum ||f||^2 over all calibration batches.
  double dense_norm_squared() const;

  // Fills in the errors of `weights` for a report: calibration and, if there are such batches,
  // held-out. The held-out objective is built when first asked for.
  absl::Status Report(absl::Span<const MatrixView> weights, StepStats& stats);

 private:
  SearchObjectives(const Problem& problem, SearchedWeights searched, CalibrationSplit split,
                   ThreadPool& pool, DenseAttention attention)
      : problem_(problem),
        searched_(searched),
        split_(std::move(split)),
        pool_(pool),
        attention_(attention) {}
  absl::StatusOr<std::unique_ptr<AttentionObjective>> Make(const Batches& batches,
                                                           const char* field);

  const Problem& problem_;
  const SearchedWeights searched_;
  const CalibrationSplit split_;  // the objectives look at it
  ThreadPool& pool_;
  const DenseAttention attention_;
  // One objective at a time is asked.
  const std::shared_ptr<Workspace> workspace_ = std::make_shared<Workspace>();
  std::vector<std::unique_ptr<AttentionObjective>> fit_;
  std::unique_ptr<AttentionObjective> validation_, held_out_;  // null: none
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SEARCH_OBJECTIVES_H_
