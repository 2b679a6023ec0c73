// AttentionObjective of the fused problem: f = softmax(s X W X') (Definition 1.1).
#ifndef ATTNPRUNE_CORE_OBJECTIVE_FUSED_OBJECTIVE_H_
#define ATTNPRUNE_CORE_OBJECTIVE_FUSED_OBJECTIVE_H_

#include <vector>

#include "core/objective/attention_objective.h"
#include "core/objective/dense_attention.h"

namespace attnprune {

// dL/dW = s X' p X (Theorem 5.3 without the mask), by Y = X W, the attention kernel with A = Y and
// B = X giving Z = s p X a batch, and one product X' Z over all tokens.
class FusedObjective final : public AttentionObjective {
 public:
  FusedObjective(const Problem& problem, const Batches& batches, ThreadPool& pool);

  double LossAndGradient(absl::Span<const MatrixView> weights,
                         absl::Span<Matrix> gradients) override;
  AttentionError Error(absl::Span<const MatrixView> weights) override;
  double dense_norm_squared() const override { return dense_.TotalNorm(); }
  double SmallestLogAttention(absl::Span<const MatrixView> weights) override;

 private:
  void ComputeProducts(MatrixView w);  // y_ = X w
  MatrixView BatchRows(const Matrix& stacked, Index batch) const;

  const Batches& batches_;
  ThreadPool& pool_;
  const float scale_;
  DenseAttentionStore dense_;
  Matrix y_, z_;                  // tokens x d
  std::vector<double> partials_;  // one a batch
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_FUSED_OBJECTIVE_H_
