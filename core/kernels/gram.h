// Second moments of the tokens: X'X and the features' norms.
#ifndef ATTNPRUNE_CORE_KERNELS_GRAM_H_
#define ATTNPRUNE_CORE_KERNELS_GRAM_H_

#include <vector>

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// A square matrix of moments in float64, row-major; X'X has both triangles stored. Copies when
// copied.
class GramMatrix {
 public:
  explicit GramMatrix(Index size) : size_(size), values_(static_cast<size_t>(size * size)) {}

  Index size() const { return size_; }
  double operator()(Index i, Index j) const { return values_[static_cast<size_t>(i * size_ + j)]; }
  double& operator()(Index i, Index j) { return values_[static_cast<size_t>(i * size_ + j)]; }
  absl::Span<const double> flat() const { return values_; }

 private:
  Index size_;
  std::vector<double> values_;
};

// X'X of x: tokens x d. Exactly symmetric. Up to 256 tokens at a time are summed in float32, the
// sums of those in float64: |error_ij| <= 256 eps ||X_i|| ||X_j||, however many tokens there are.
// Infinite or NaN where a product overflows float32. The bits do not depend on the pool's threads.
// O(tokens d^2).
GramMatrix Gram(MatrixView x, ThreadPool& pool);
// gram += X'X, of x with gram.size() columns, likewise.
void AddGram(MatrixView x, ThreadPool& pool, GramMatrix& gram);

// cross += X'Y of x and y, tokens x d each, likewise; not symmetric.
void AddCross(MatrixView x, MatrixView y, ThreadPool& pool, GramMatrix& cross);

// squares_j += ||X_j||_2^2 of every column of x, summed in float64, row by row. squares: empty
// before the first.
void AddColumnSquares(MatrixView x, std::vector<double>& squares);

// ||X_j||_2 of every column of x, summed in float64. The bits do not depend on the pool's threads.
std::vector<double> ColumnNorms(MatrixView x, ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_GRAM_H_
