#include "core/methods/mask_descent.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/status_macros.h"
#include "core/kernels/finite.h"

namespace attnprune {

MaskDescent::MaskDescent(std::vector<NamedWeight> weights, LossFunction& objective,
                         ThreadPool& pool, const HeavyBall& step, double lambda,
                         uint64_t fingerprint)
    : weights_(std::move(weights)),
      objective_(objective),
      pool_(pool),
      step_(step),
      lambda_(lambda),
      fingerprint_(fingerprint),
      shards_(weights_),
      masks_(LikeEach(weights_, 1.0f)),
      previous_masks_(LikeEach(weights_, 1.0f)),
      velocities_(LikeEach(weights_, 0.0f)),
      pruned_(LikeEach(weights_, 0.0f)),
      gradients_(LikeEach(weights_, 0.0f)),
      previous_loss_(std::numeric_limits<double>::quiet_NaN()) {
  for (const NamedWeight& weight : weights_) dense_.push_back(Matrix::CopyFrom(weight.dense));
}

void MaskDescent::Prune() {
  shards_.ForEach(pool_, [this](const Shard& shard, size_t) {
    Hadamard(shard.Of(std::as_const(dense_)), shard.Of(std::as_const(masks_)), shard.Of(pruned_));
  });
  pruned_is_current_ = true;
}

MaskDescent::Losses MaskDescent::Evaluate() {
  if (!pruned_is_current_) Prune();
  Losses losses;
  losses.attention = objective_.LossAndGradient(Views(pruned_), absl::MakeSpan(gradients_));

  std::vector<MaskStepSums> sums(shards_.count());
  shards_.ForEach(pool_, [this, &sums](const Shard& shard, size_t i) {
    sums[i] = GradientInMask(shard.Of(std::as_const(dense_)), shard.Of(std::as_const(masks_)),
                             static_cast<float>(lambda_), shard.Of(gradients_));
  });
  MaskStepSums total;
  for (const MaskStepSums& sum : sums) {
    total.gradient_squared += sum.gradient_squared;
    total.mask_squared += sum.mask_squared;
  }
  losses.regularization = 0.5 * lambda_ * total.mask_squared;
  losses.gradient_norm =
      std::sqrt(total.gradient_squared) * static_cast<double>(step_.inverse_batches);
  losses.finite = std::isfinite(losses.total()) && std::isfinite(losses.gradient_norm);
  return losses;
}

void MaskDescent::Step(double loss) {
  shards_.ForEach(pool_, [this](const Shard& shard, size_t) {
    HeavyBallStep(step_, shard.Of(std::as_const(gradients_)), shard.Of(std::as_const(masks_)),
                  shard.Of(std::as_const(dense_)), shard.Of(velocities_), shard.Of(previous_masks_),
                  shard.Of(pruned_));
  });
  std::swap(masks_, previous_masks_);
  previous_loss_ = loss;
  ++steps_taken_;
}

void MaskDescent::StepBack() {
  if (steps_taken_ == 0) return;
  std::swap(masks_, previous_masks_);
  pruned_is_current_ = false;
  --steps_taken_;
}

bool MaskDescent::MasksAreFinite() const {
  return std::all_of(masks_.begin(), masks_.end(),
                     [](const Matrix& mask) { return AllFinite(mask.flat()); });
}

void MaskDescent::AppendState(std::string* out) const {
  SolverStateView state;
  state.fingerprint = fingerprint_;
  state.step = steps_taken_;
  state.numbers = {previous_loss_};
  for (size_t m = 0; m < weights_.size(); ++m) {
    state.matrices[StateKey(weights_[m].name, "mask")] = &masks_[m];
    state.matrices[StateKey(weights_[m].name, "previous_mask")] = &previous_masks_[m];
    state.matrices[StateKey(weights_[m].name, "velocity")] = &velocities_[m];
  }
  AppendSolverState(state, out);
}

absl::Status MaskDescent::Restore(const std::string& bytes, int max_steps) {
  ATTNPRUNE_ASSIGN_OR_RETURN(SolverState state, ParseState(bytes, fingerprint_, max_steps));
  pruned_is_current_ = false;
  bool complete = state.numbers.size() == 1;
  for (size_t m = 0; m < weights_.size(); ++m) {
    complete = complete && state.Take(StateKey(weights_[m].name, "mask"), masks_[m]) &&
               state.Take(StateKey(weights_[m].name, "previous_mask"), previous_masks_[m]) &&
               state.Take(StateKey(weights_[m].name, "velocity"), velocities_[m]);
  }
  if (!complete) return ResumeRefused("must hold every matrix of the run, finite");
  steps_taken_ = state.step;
  previous_loss_ = state.numbers[0];
  return absl::OkStatus();
}

}  // namespace attnprune
