// The relative error of a binary mask in the middle of a run, for progress reports only.
#ifndef ATTNPRUNE_CORE_METHODS_BINARY_MASK_ERROR_H_
#define ATTNPRUNE_CORE_METHODS_BINARY_MASK_ERROR_H_

#include <vector>

#include "absl/status/status.h"
#include "core/methods/method.h"
#include "core/objective/prepared_problem.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Reports only: nothing that it computes reaches the run. One caller at a time.
class BinaryMaskError {
 public:
  explicit BinaryMaskError(PreparedProblem& problem) : problem_(problem) {}

  // Fills in stats.calibration_error and, if there are held-out batches, stats.held_out_error.
  absl::Status Evaluate(const std::vector<NamedWeight>& weights, const std::vector<BitMask>& masks,
                        StepStats& stats);

 private:
  PreparedProblem& problem_;
  std::vector<Matrix> pruned_;  // kept between two reports: fresh memory costs page faults
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_BINARY_MASK_ERROR_H_
