// The relative error of a binary mask in the middle of a run, for progress reports only.
#ifndef ATTNPRUNE_CORE_METHODS_BINARY_MASK_ERROR_H_
#define ATTNPRUNE_CORE_METHODS_BINARY_MASK_ERROR_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "core/methods/method.h"
#include "core/objective/attention_objective.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Reports only: nothing that it computes reaches the run. Builds the held-out objective when first
// asked. One caller at a time.
class BinaryMaskError {
 public:
  // calibration: the run's own objective. Everything borrowed must outlive this.
  BinaryMaskError(const Problem& problem, AttentionObjective& calibration, ThreadPool& pool,
                  DenseAttention attention)
      : problem_(problem), calibration_(calibration), pool_(pool), attention_(attention) {}

  // Fills in stats.calibration_error and, if there are held-out batches, stats.held_out_error.
  absl::Status Evaluate(const std::vector<NamedWeight>& weights, const std::vector<BitMask>& masks,
                        StepStats& stats);

 private:
  const Problem& problem_;
  AttentionObjective& calibration_;
  ThreadPool& pool_;
  const DenseAttention attention_;  // of the held-out objective
  std::unique_ptr<AttentionObjective> held_out_;
  std::vector<Matrix> pruned_;  // kept between two reports: fresh memory costs page faults
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_BINARY_MASK_ERROR_H_
