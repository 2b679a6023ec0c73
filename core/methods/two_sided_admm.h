// ADMM for the sparse weights of a matrix whose heads have a Kronecker metric each: ALPS
// (alps_search.h) with the outputs' metric beside the inputs'.
//
//   min sum over heads of tr(B (T - D) A (T - D)')  over D with so many entries that are not 0
//
// with T = W~ - H^-1 G the target of a step from W~, of gradient G. In the metrics' own scale
// (kronecker_metric.h), C = H T:  U <- (H + r)^-1 (C - V + r D), then admm.h's half. mu damps H.
#ifndef ATTNPRUNE_CORE_METHODS_TWO_SIDED_ADMM_H_
#define ATTNPRUNE_CORE_METHODS_TWO_SIDED_ADMM_H_

#include <vector>

#include "core/base/thread_pool.h"
#include "core/methods/admm.h"
#include "core/methods/kronecker_metric.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// outputs x inputs throughout, heads below each other. One caller at a time.
class TwoSidedAdmm {
 public:
  TwoSidedAdmm(Index outputs, Index inputs, const Sparsity& sparsity, ThreadPool& pool);

  // Sets the target from unscaled W~ and G. `metrics` must outlive the steps.
  void Aim(const std::vector<KroneckerMetric>& metrics, const Matrix& weights,
           const Matrix& gradient, double mu);
  // After Aim: from the target.
  void Begin();
  void Step(int step);
  // In place of both: U is unscaled `weights`, from which Refined moves those of a fixed support.
  void Hold(const Matrix& weights);

  bool settled() const { return state.settled; }
  // D, unscaled.
  Matrix Weights() const;
  // That of P(U); and P(U), unscaled, with `refine_steps` of conjugate gradients.
  BitMask Support() const;
  // ln |U + V / r|, by which the next D would be chosen, in the metrics' scale. What is not finite,
  // and what is below 1e-6 of the largest, counts as that.
  Matrix LogScores() const;
  Matrix Refined(const BitMask& support, int refine_steps) const;

  AdmmState state;  // for saving

 private:
  template <typename Work>
  void ForHeads(Work work) const;

  const Sparsity sparsity_;
  ThreadPool& pool_;
  const std::vector<KroneckerMetric>* metrics_ = nullptr;
  Matrix target_, c_;
  float mu_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_TWO_SIDED_ADMM_H_
