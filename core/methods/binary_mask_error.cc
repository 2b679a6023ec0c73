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
  stats.calibration_error = calibration_.Error(views).relative();
  if (problem_.held_out.count() == 0) return absl::OkStatus();
  if (held_out_ == nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        held_out_, AttentionObjective::Create(problem_, problem_.held_out, "held_out", pool_,
                                              {.dense = attention_}));
  }
  stats.held_out_error = held_out_->Error(views).relative();
  return absl::OkStatus();
}

}  // namespace attnprune
