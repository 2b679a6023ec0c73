// The one place where results are scored: every method's figures come from here.
#ifndef ATTNPRUNE_CORE_JUDGE_SCORE_H_
#define ATTNPRUNE_CORE_JUDGE_SCORE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/methods/method.h"
#include "core/problem/problem.h"

namespace attnprune {

// Errors on one set of batches.
struct BatchScore {
  // Equation (1) for the binary mask and the weights as they are after pruning:
  // sum ||f~ - f||^2 / sum ||f||^2 over batches and heads; then per query head.
  double relative_error = 0;
  std::vector<double> per_head;
  // The same with W o M for the real-valued mask before binarisation, where the method has one.
  absl::optional<double> soft_relative_error;
  // The same with the binary mask on the dense weights: what the mask alone costs. Only where the
  // method has moved kept weights; elsewhere it is relative_error. Infinite if logits overflow.
  absl::optional<double> mask_only_relative_error;
  // ||X (W - W~)||_F^2 / ||X W||_F^2 over all tokens and attention weights (the fused W, W~ being
  // the product where its factors were pruned; or W_Q and W_K), so that methods can be compared.
  double linear_error = 0;
  // The same of each matrix of the result, in its order: of the factors where those were pruned.
  std::vector<double> linear_error_per_matrix;
};

// Exact counts of one matrix's mask.
struct MatrixSparsity {
  std::string name;
  Index pruned = 0, size = 0;

  double achieved() const { return static_cast<double>(pruned) / static_cast<double>(size); }
};

struct Score {
  BatchScore calibration;
  absl::optional<BatchScore> held_out;  // none without held-out batches
  std::vector<MatrixSparsity> sparsity;
};

// Scores `result`, which a method gave for `problem`. threads: at least 1; neither it nor
// `attention` ever changes a bit. INVALID_ARGUMENT when the problem is not valid, the result is not
// one of it, or logits overflow; RESOURCE_EXHAUSTED when memory runs out.
absl::StatusOr<Score> Judge(const Problem& problem, const PruneResult& result, int threads = 1,
                            DenseAttention attention = DenseAttention::kKeep);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_JUDGE_SCORE_H_
