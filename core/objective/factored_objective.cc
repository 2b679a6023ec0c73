#include "core/objective/factored_objective.h"

#include "core/kernels/blas.h"

namespace attnprune {

std::vector<MatrixView> FactoredObjective::Product(absl::Span<const MatrixView> factors) {
  const Index d = factors[0].rows();
  if (product_.empty()) product_ = Matrix(d, d);
  Gemm(Trans::kNo, Trans::kYes, 1.0f, factors[0], factors[1], 0.0f, product_);
  return {product_};
}

double FactoredObjective::LossAndGradient(absl::Span<const MatrixView> factors,
                                          absl::Span<Matrix> gradients) {
  const double loss = fused_.LossAndGradient(Product(factors), absl::MakeSpan(gradient_));
  for (size_t i = 0; i < 2; ++i) {
    if (gradients[i].empty()) gradients[i] = Matrix(factors[i].rows(), factors[i].cols());
    Gemm(i == 0 ? Trans::kNo : Trans::kYes, Trans::kNo, 1.0f, gradient_[0], factors[1 - i], 0.0f,
         gradients[i]);
  }
  return loss;
}

AttentionError FactoredObjective::DoError(absl::Span<const MatrixView> factors,
                                          const ErrorOptions& options) {
  return fused_.Error(Product(factors), options);
}

}  // namespace attnprune
