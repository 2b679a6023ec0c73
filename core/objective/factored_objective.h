// LossFunction in the factors of a fused weight: W = W_Q W_K'.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_FACTORED_OBJECTIVE_H_
#define ATTNPRUNE_CORE_OBJECTIVE_FACTORED_OBJECTIVE_H_

#include <vector>

#include "core/objective/attention_objective.h"

namespace attnprune {

// Takes the weights {W_Q, W_K}, both d x r, in place of {W}: with G = dL/dW of the fused objective,
// dL/dW_Q = G W_K and dL/dW_K = G' W_Q. Thread contract and bits: those of LossFunction.
class FactoredObjective final : public LossFunction {
 public:
  // fused: of a fused problem; must outlive this.
  explicit FactoredObjective(LossFunction& fused) : fused_(fused) {}

  double LossAndGradient(absl::Span<const MatrixView> factors,
                         absl::Span<Matrix> gradients) override;
  double dense_norm_squared() const override { return fused_.dense_norm_squared(); }

 private:
  AttentionError DoError(absl::Span<const MatrixView> factors,
                         const ErrorOptions& options) override;
  std::vector<MatrixView> Product(absl::Span<const MatrixView> factors);  // valid until the next

  LossFunction& fused_;
  Matrix product_;
  std::vector<Matrix> gradient_ = std::vector<Matrix>(1);  // in the product
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_FACTORED_OBJECTIVE_H_
