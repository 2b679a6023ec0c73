// The quadratic model that K-FAC makes of the attention loss in the weights of one head, and what
// is solved with it.
#ifndef ATTNPRUNE_CORE_METHODS_KRONECKER_METRIC_H_
#define ATTNPRUNE_CORE_METHODS_KRONECKER_METRIC_H_

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/thread_pool.h"
#include "core/methods/alps_inputs.h"
#include "core/objective/attention_curvature.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// H = B (x) A, in the scale of weights that makes its diagonal 1: W_ij counts as W_ij s_i t_j, with
// s_i^2 = B_ii and t_j^2 = A_jj. All matrices are the head's outputs x inputs.
class KroneckerMetric {
 public:
  // Each factor damped as alps_inputs.h says; B by a `floor` on its diagonal too.
  // FAILED_PRECONDITION naming the calibration as PrepareAlps does.
  static absl::StatusOr<KroneckerMetric> Create(const HeadCurvature& curvature, double damping,
                                                double floor);

  // Weights into that scale and back; a gradient goes into it as weights go back.
  void Scale(MatrixView weights, MutableMatrixView out) const;
  void Unscale(MatrixView weights, MutableMatrixView out) const;

  // With H of B + mu and A + mu: out = H x; out with (H + r) out = x. In the metric's scale.
  void Multiply(MatrixView x, float mu, MutableMatrixView out) const;
  void Solve(MatrixView x, float mu, float r, MutableMatrixView out) const;

  // `steps` of conjugate gradients on H x = c in the entries where `mask` is 1, from x.
  void Refine(MatrixView c, float mu, MatrixView mask, int steps, MutableMatrixView x) const;

 private:
  KroneckerMetric(AlpsInputs inputs, AlpsInputs outputs)
      : inputs_(std::move(inputs)), outputs_(std::move(outputs)) {}

  AlpsInputs inputs_, outputs_;
};

// One a head, which together are the rows of a matrix. The floor is 1e-6 of the mean of all B's
// diagonals, or 1 where that is 0: a head without any curvature stays as it is. On the pool's
// threads.
absl::StatusOr<std::vector<KroneckerMetric>> PrepareMetrics(
    const std::vector<HeadCurvature>& curvatures, double damping, ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_KRONECKER_METRIC_H_
