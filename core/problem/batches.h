// Calibration or held-out batches: several sequences of tokens stacked in one matrix.
#ifndef ATTNPRUNE_CORE_PROBLEM_BATCHES_H_
#define ATTNPRUNE_CORE_PROBLEM_BATCHES_H_

#include <vector>

#include "core/tensor/matrix.h"

namespace attnprune {

// k batches X_j of n_j x d, stacked by rows so that one GEMM serves all of them.
class Batches {
 public:
  Batches() = default;
  // tokens: (sum of lengths) x d. Lengths in tokens; their sum must be tokens.rows().
  Batches(Matrix tokens, std::vector<Index> lengths);
  // Copies the batches, all of one width, into one stack.
  static Batches Stack(const std::vector<Matrix>& batches);

  Index count() const { return static_cast<Index>(lengths_.size()); }
  Index features() const { return tokens_.cols(); }
  Index total_tokens() const { return tokens_.rows(); }
  Index longest() const;
  Index begin(Index j) const { return begins_[static_cast<size_t>(j)]; }
  Index length(Index j) const { return lengths_[static_cast<size_t>(j)]; }
  MatrixView all() const { return tokens_; }
  MatrixView batch(Index j) const { return all().Rows(begin(j), length(j)); }
  Batches Clone() const { return Batches(tokens_.Clone(), lengths_); }

 private:
  Matrix tokens_;
  std::vector<Index> lengths_, begins_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_BATCHES_H_
