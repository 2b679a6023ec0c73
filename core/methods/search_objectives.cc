#include "core/methods/search_objectives.h"

#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "core/methods/calibration_split.h"

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
    PreparedProblem& prepared, SearchedWeights searched, double validation_fraction,
    Index batches_per_step) {
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const calibration, prepared.Calibration());
  const SplitIndices split =
      SplitBatches(prepared.problem().calibration.count(), validation_fraction, batches_per_step);
  auto result = std::unique_ptr<SearchObjectives>(new SearchObjectives(prepared, searched));
  for (const std::vector<Index>& picked : split.fit) {
    ATTNPRUNE_ASSIGN_OR_RETURN(result->fit_.emplace_back(), result->MakePart(*calibration, picked));
  }
  if (!split.validation.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(result->validation_,
                               result->MakePart(*calibration, split.validation));
  }
  return result;
}

absl::StatusOr<SearchObjectives::Part> SearchObjectives::MakePart(AttentionObjective& calibration,
                                                                  absl::Span<const Index> picked) {
  const Batches& all = prepared_.problem().calibration;
  Part part{.count = static_cast<Index>(picked.size()), .attention = &calibration};
  if (part.count < all.count()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(Batches copies, all.Pick(picked));
    part.batches = std::make_unique<Batches>(std::move(copies));
    part.owned = calibration.Subset(*part.batches, picked);
    part.attention = part.owned.get();
  }
  if (searched_ == SearchedWeights::kFactors) {
    part.in_factors = std::make_unique<FactoredObjective>(*part.attention);
  }
  return part;
}

double SearchObjectives::ValidationError(absl::Span<const MatrixView> weights) {
  return validation_.has_value() ? validation_->loss().Error(weights).relative()
                                 : CalibrationError(weights);
}

double SearchObjectives::CalibrationError(absl::Span<const MatrixView> weights) {
  ErrorSums sums;
  for (const Part& part : fit_) sums.Add(part.loss().Error(weights));
  if (validation_.has_value()) sums.Add(validation_->loss().Error(weights));
  return sums.relative();
}

double SearchObjectives::dense_norm_squared() const {
  double total = validation_.has_value() ? validation_->loss().dense_norm_squared() : 0;
  for (const Part& part : fit_) total += part.loss().dense_norm_squared();
  return total;
}

absl::Status SearchObjectives::Report(absl::Span<const MatrixView> weights, StepStats& stats) {
  stats.calibration_error = CalibrationError(weights);
  if (prepared_.problem().held_out.count() == 0) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const held_out, prepared_.HeldOut());
  const bool factors = searched_ == SearchedWeights::kFactors;
  stats.held_out_error = factors ? FactoredObjective(*held_out).Error(weights).relative()
                                 : held_out->Error(weights).relative();
  return absl::OkStatus();
}

}  // namespace attnprune
