#include "core/methods/search_objectives.h"

#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "core/objective/factored_objective.h"

namespace attnprune {
namespace {

// Sums over the heads of several sets of batches.
class ErrorSums {
 public:
  void Add(const AttentionError& error) {
    difference_ = std::accumulate(error.difference.begin(), error.difference.end(), difference_);
    dense_ = std::accumulate(error.dense.begin(), error.dense.end(), dense_);
  }
  double relative() const { return difference_ / dense_; }

 private:
  double difference_ = 0, dense_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SearchObjectives>> SearchObjectives::Create(
    const Problem& problem, SearchedWeights searched, double validation_fraction,
    Index batches_per_step, ThreadPool& pool, DenseAttention attention) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      CalibrationSplit split,
      SplitCalibration(problem.calibration, validation_fraction, batches_per_step));
  auto result = std::unique_ptr<SearchObjectives>(
      new SearchObjectives(problem, searched, std::move(split), pool, attention));
  for (const Batches& part : result->split_.fit) {
    ATTNPRUNE_ASSIGN_OR_RETURN(result->fit_.emplace_back(), result->Make(part, "calibration"));
  }
  if (result->split_.validation.count() > 0) {
    ATTNPRUNE_ASSIGN_OR_RETURN(result->validation_,
                               result->Make(result->split_.validation, "calibration"));
  }
  return result;
}

absl::StatusOr<std::unique_ptr<AttentionObjective>> SearchObjectives::Make(const Batches& batches,
                                                                           const char* field) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      std::unique_ptr<AttentionObjective> objective,
      AttentionObjective::Create(problem_, batches, field, pool_,
                                 {.dense = attention_, .workspace = workspace_}));
  if (searched_ == SearchedWeights::kAttention) return objective;
  return std::make_unique<FactoredObjective>(std::move(objective));
}

double SearchObjectives::ValidationError(absl::Span<const MatrixView> weights) {
  return validation_ == nullptr ? CalibrationError(weights)
                                : validation_->Error(weights).relative();
}

double SearchObjectives::CalibrationError(absl::Span<const MatrixView> weights) {
  ErrorSums sums;
  for (const auto& part : fit_) sums.Add(part->Error(weights));
  if (validation_ != nullptr) sums.Add(validation_->Error(weights));
  return sums.relative();
}

double SearchObjectives::dense_norm_squared() const {
  double total = validation_ == nullptr ? 0 : validation_->dense_norm_squared();
  for (const auto& part : fit_) total += part->dense_norm_squared();
  return total;
}

absl::Status SearchObjectives::Report(absl::Span<const MatrixView> weights, StepStats& stats) {
  stats.calibration_error = CalibrationError(weights);
  if (problem_.held_out.count() == 0) return absl::OkStatus();
  if (held_out_ == nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(held_out_, Make(problem_.held_out, "held_out"));
  }
  stats.held_out_error = held_out_->Error(weights).relative();
  return absl::OkStatus();
}

}  // namespace attnprune
