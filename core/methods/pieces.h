// Fixed shards of the element-wise work on several matrices.
#ifndef ATTNPRUNE_CORE_METHODS_PIECES_H_
#define ATTNPRUNE_CORE_METHODS_PIECES_H_

#include <algorithm>
#include <vector>

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/problem/problem.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Consecutive entries of one of the matrices.
struct Piece {
  size_t matrix;
  Index first, count;

  template <typename MatrixType>
  auto Of(MatrixType& m) const {
    return m.flat().subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  }
  // The piece of its own matrix among `matrices`.
  template <typename MatrixType>
  auto Of(std::vector<MatrixType>& matrices) const {
    return Of(matrices[matrix]);
  }
  auto Of(const std::vector<Matrix>& matrices) const { return Of(matrices[matrix]); }
};

// The pieces depend on the shapes only. Immutable.
class Pieces {
 public:
  explicit Pieces(const std::vector<NamedWeight>& weights) {
    for (size_t m = 0; m < weights.size(); ++m) {
      const Index size = weights[m].dense.size();
      for (Index first = 0; first < size; first += kPiece) {
        pieces_.push_back({m, first, std::min(kPiece, size - first)});
      }
    }
  }

  size_t count() const { return pieces_.size(); }

  // Calls work(piece, its index) for every piece, on the pool's threads.
  template <typename Work>
  void ForEach(ThreadPool& pool, Work work) const {
    pool.ParallelFor(static_cast<Index>(pieces_.size()), [&](Index i) {
      work(pieces_[static_cast<size_t>(i)], static_cast<size_t>(i));
    });
  }

 private:
  static constexpr Index kPiece = 1 << 15;  // floats; two of five arrays fit a second-level cache
  std::vector<Piece> pieces_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_PIECES_H_
