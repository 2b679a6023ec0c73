#include "core/methods/kfac_objective.h"

#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "core/methods/calibration_split.h"
#include "core/methods/linear_map.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

// softmax(s X W X') is that of one head: with its factors as projections, or with the tokens
// themselves as keys.
ProjectionWeights AsOneHead(const std::vector<NamedWeight>& maps) {
  ProjectionWeights layer;
  layer.w_q = OutIn(maps[0]);
  if (maps.size() == 2) {
    layer.w_k = OutIn(maps[1]);
  } else {
    layer.w_k = Matrix(layer.w_q.cols(), layer.w_q.cols());
    for (Index j = 0; j < layer.w_k.cols(); ++j) layer.w_k(j, j) = 1;
  }
  return layer;
}

}  // namespace

KfacObjective::KfacObjective(PreparedProblem& prepared, bool by_factors)
    : prepared_(prepared),
      maps_(LinearMaps(prepared.problem(), by_factors)),
      in_factors_(prepared.problem().fused() && maps_.size() == 2) {
  if (prepared.problem().fused()) layer_ = AsOneHead(maps_);
}

absl::StatusOr<std::unique_ptr<KfacObjective>> KfacObjective::Create(PreparedProblem& prepared,
                                                                     bool by_factors,
                                                                     double validation_fraction) {
  const Index batches = prepared.problem().calibration.count();
  const SplitIndices split = SplitBatches(batches, validation_fraction, batches);
  auto result = std::unique_ptr<KfacObjective>(new KfacObjective(prepared, by_factors));
  // The parts' dense attention takes as much memory as that of all batches.
  if (!split.validation.empty()) prepared.ReleaseCalibration();
  ATTNPRUNE_ASSIGN_OR_RETURN(result->parts_.emplace_back(), result->MakePart(split.fit[0]));
  if (!split.validation.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(result->parts_.emplace_back(), result->MakePart(split.validation));
  }
  return result;
}

absl::StatusOr<KfacObjective::Part> KfacObjective::MakePart(const std::vector<Index>& picked) {
  const Problem& problem = prepared_.problem();
  const Batches* batches = &problem.calibration;
  Part part;
  if (static_cast<Index>(picked.size()) < batches->count()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(Batches copies, batches->Pick(picked));
    part.batches = std::make_unique<Batches>(std::move(copies));
    batches = part.batches.get();
    ATTNPRUNE_ASSIGN_OR_RETURN(part.owned, prepared_.Part(*batches));
    part.loss = part.owned.get();
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(part.loss, prepared_.Calibration());
  }
  if (in_factors_) {
    part.in_factors = std::make_unique<FactoredObjective>(*part.loss);
    part.loss = part.in_factors.get();
  }
  part.curvature = std::make_unique<AttentionCurvature>(
      problem.fused() ? layer_ : problem.projections(), problem.attention,
      problem.effective_scale(), *batches, prepared_.pool());
  return part;
}

double KfacObjective::LossAndGradient(From from, absl::Span<const MatrixView> weights,
                                      absl::Span<Matrix> gradients) {
  double loss = parts_[0].loss->LossAndGradient(weights, gradients);
  for (Part& part : PartsOf(from).subspan(1)) {
    room_.resize(gradients.size());
    loss += part.loss->LossAndGradient(weights, absl::MakeSpan(room_));
    for (size_t m = 0; m < gradients.size(); ++m) ArrayOf(gradients[m]) += ArrayOf(room_[m]);
  }
  return loss;
}

double KfacObjective::Loss(From from, absl::Span<const MatrixView> weights) {
  double difference = 0;
  for (Part& part : PartsOf(from)) {
    const AttentionError error = part.loss->Error(weights);
    difference = std::accumulate(error.difference.begin(), error.difference.end(), difference);
  }
  return difference / 2;
}

std::vector<std::vector<HeadCurvature>> KfacObjective::Curvature(
    From from, absl::Span<const MatrixView> weights) {
  const bool fused = prepared_.problem().fused();
  LayerCurvature sum(fused ? layer_ : prepared_.problem().projections());
  if (maps_.size() == 1) sum.keys.clear();
  std::vector<Matrix> turned;
  for (size_t m = 0; m < weights.size(); ++m) {
    turned.push_back(OutIn({maps_[m].name, weights[m], maps_[m].inputs_are_rows}));
  }
  for (Part& part : PartsOf(from)) {
    part.curvature->Add(turned[0], turned.size() == 2 ? turned[1] : layer_.w_k, sum);
  }
  std::vector<std::vector<HeadCurvature>> of_maps;
  of_maps.push_back(std::move(sum.queries));
  if (maps_.size() == 2) of_maps.push_back(std::move(sum.keys));
  return of_maps;
}

double KfacObjective::ValidationError(absl::Span<const MatrixView> weights) {
  return parts_.back().loss->Error(weights).relative();
}

double KfacObjective::CalibrationError(absl::Span<const MatrixView> weights) {
  double difference = 0, dense = 0;
  for (Part& part : parts_) {
    const AttentionError error = part.loss->Error(weights);
    difference = std::accumulate(error.difference.begin(), error.difference.end(), difference);
    dense = std::accumulate(error.dense.begin(), error.dense.end(), dense);
  }
  return difference / dense;
}

double KfacObjective::dense_norm_squared(From from) const {
  double total = parts_[0].loss->dense_norm_squared();
  if (from == From::kAll && validates()) total += parts_[1].loss->dense_norm_squared();
  return total;
}

absl::Status KfacObjective::Report(absl::Span<const MatrixView> weights, StepStats& stats) {
  stats.calibration_error = CalibrationError(weights);
  if (prepared_.problem().held_out.count() == 0) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const held_out, prepared_.HeldOut());
  stats.held_out_error = in_factors_ ? FactoredObjective(*held_out).Error(weights).relative()
                                     : held_out->Error(weights).relative();
  return absl::OkStatus();
}

}  // namespace attnprune
