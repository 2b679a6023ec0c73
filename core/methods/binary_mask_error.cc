#include "core/methods/binary_mask_error.h"

#include "core/base/status_macros.h"

namespace attnprune {

absl::Status BinaryMaskError::Evaluate(const std::vector<NamedWeight>& weights,
                                       const std::vector<BitMask>& masks, StepStats& stats) {
  if (pruned_.empty()) {
    for (const NamedWeight& w : weights) pruned_.emplace_back(w.dense.rows(), w.dense.cols());
  }
  for (size_t i = 0; i < weights.size(); ++i) masks[i].ApplyInto(weights[i].dense, pruned_[i]);
  const std::vector<MatrixView> views(pruned_.begin(), pruned_.end());
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const calibration, problem_.Calibration());
  stats.calibration_error = calibration->Error(views).relative();
  if (problem_.problem().held_out.count() == 0) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const held_out, problem_.HeldOut());
  stats.held_out_error = held_out->Error(views).relative();
  return absl::OkStatus();
}

}  // namespace attnprune
