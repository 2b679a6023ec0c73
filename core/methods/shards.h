// What is done with several matrices, one for each weight: made alike, worked on in fixed shards.
#ifndef ATTNPRUNE_CORE_METHODS_SHARDS_H_
#define ATTNPRUNE_CORE_METHODS_SHARDS_H_

#include <algorithm>
#include <vector>

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/problem/problem.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// One matrix for each of the weights, of its shape, all `value`.
inline std::vector<Matrix> LikeEach(const std::vector<NamedWeight>& weights, float value) {
  std::vector<Matrix> out;
  out.reserve(weights.size());
  for (const NamedWeight& w : weights) {
    out.push_back(Matrix::Constant(w.dense.rows(), w.dense.cols(), value));
  }
  return out;
}

// Consecutive entries of one of the matrices.
struct Shard {
  size_t matrix;
  Index first, count;

  template <typename MatrixType>
  auto Of(MatrixType& m) const {
    return m.flat().subspan(static_cast<size_t>(first), static_cast<size_t>(count));
  }
  // The shard of its own matrix among `matrices`.
  template <typename MatrixType>
  auto Of(std::vector<MatrixType>& matrices) const {
    return Of(matrices[matrix]);
  }
  auto Of(const std::vector<Matrix>& matrices) const { return Of(matrices[matrix]); }
};

// The shards depend on the shapes only. Immutable.
class Shards {
 public:
  explicit Shards(const std::vector<NamedWeight>& weights) {
    for (size_t m = 0; m < weights.size(); ++m) {
      const Index size = weights[m].dense.size();
      for (Index first = 0; first < size; first += kShard) {
        shards_.push_back({m, first, std::min(kShard, size - first)});
      }
    }
  }

  size_t count() const { return shards_.size(); }

  // Calls work(shard, its index) for every shard, on the pool's threads.
  template <typename Work>
  void ForEach(ThreadPool& pool, Work work) const {
    pool.ParallelFor(static_cast<Index>(shards_.size()), [&](Index i) {
      work(shards_[static_cast<size_t>(i)], static_cast<size_t>(i));
    });
  }

 private:
  static constexpr Index kShard = 1 << 15;  // floats; two of five arrays fit a second-level cache
  std::vector<Shard> shards_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SHARDS_H_
