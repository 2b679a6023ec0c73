#include "core/methods/search_objectives.h"

#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "core/methods/calibration_split.h"

namespace attnprune {

SearchedWeights SearchedOf(const Problem& problem, const std::vector<NamedWeight>& weights) {
  return problem.fused() && weights.size() == 2 ? SearchedWeights::kFactors
                                                : SearchedWeights::kAttention;
}

absl::StatusOr<std::unique_ptr<SearchObjectives>> SearchObjectives::Create(
    PreparedProblem& prepared, SearchedWeights searched, double validation_fraction,
    Index batches_per_step) {
  const SplitIndices split =
      SplitBatches(prepared.problem().calibration.count(), validation_fraction, batches_per_step);
  auto result = std::unique_ptr<SearchObjectives>(new SearchObjectives(prepared, searched));
  // The parts' dense attention takes as much memory as that of all batches.
  if (split.fit.size() > 1 || !split.validation.empty()) prepared.ReleaseCalibration();
  for (const std::vector<Index>& picked : split.fit) {
    ATTNPRUNE_ASSIGN_OR_RETURN(result->fit_.emplace_back(), result->MakePart(picked));
  }
  if (!split.validation.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(result->validation_, result->MakePart(split.validation));
  }
  return result;
}

absl::StatusOr<SearchObjectives::Part> SearchObjectives::MakePart(absl::Span<const Index> picked) {
  const Batches& all = prepared_.problem().calibration;
  Part part{.count = static_cast<Index>(picked.size())};
  if (part.count < all.count()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(Batches copies, all.Pick(picked));
    part.batches = std::make_unique<Batches>(std::move(copies));
    ATTNPRUNE_ASSIGN_OR_RETURN(part.owned, prepared_.Part(*part.batches));
    part.attention = part.owned.get();
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(part.attention, prepared_.Calibration());
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
  double difference = 0, dense = 0;
  const auto add = [&](const AttentionError& error) {
    difference = std::accumulate(error.difference.begin(), error.difference.end(), difference);
    dense = std::accumulate(error.dense.begin(), error.dense.end(), dense);
  };
  for (const Part& part : fit_) add(part.loss().Error(weights));
  if (validation_.has_value()) add(validation_->loss().Error(weights));
  return difference / dense;
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
