// AttentionObjective in the factors of a fused weight: W = W_Q W_K'.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_FACTORED_OBJECTIVE_H_
#define ATTNPRUNE_CORE_OBJECTIVE_FACTORED_OBJECTIVE_H_

#include <memory>
#include <vector>

#include "core/objective/attention_objective.h"

namespace attnprune {

// Takes the weights {W_Q, W_K}, both d x r, in place of {W}: with G = dL/dW of the fused objective,
// dL/dW_Q = G W_K and dL/dW_K = G' W_Q. Thread contract and bits: those of AttentionObjective.
class FactoredObjective final : public AttentionObjective {
 public:
  // fused: of a fused problem.
  explicit FactoredObjective(std::unique_ptr<AttentionObjective> fused)
      : fused_(std::move(fused)) {}

  double LossAndGradient(absl::Span<const MatrixView> factors,
                         absl::Span<Matrix> gradients) override;
  AttentionError Error(absl::Span<const MatrixView> factors) override;
  double dense_norm_squared() const override { return fused_->dense_norm_squared(); }
  double SmallestLogAttention(absl::Span<const MatrixView> factors) override;

 private:
  std::vector<MatrixView> Product(absl::Span<const MatrixView> factors);  // valid until the next

  const std::unique_ptr<AttentionObjective> fused_;
  Matrix product_;
  std::vector<Matrix> gradient_ = std::vector<Matrix>(1);  // in the product
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_FACTORED_OBJECTIVE_H_
