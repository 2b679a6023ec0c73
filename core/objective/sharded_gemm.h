// Large matrix products cut into fixed shards over the threads of a pool.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_SHARDED_GEMM_H_
#define ATTNPRUNE_CORE_OBJECTIVE_SHARDED_GEMM_H_

#include "absl/functional/function_ref.h"
#include "core/base/thread_pool.h"
#include "core/kernels/blas.h"
#include "core/tensor/matrix.h"

namespace attnprune {

enum class Into { kReplace, kAdd };

using FinishTile = absl::FunctionRef<void(Index row, Index col, MutableMatrixView tile)>;

// Calls shard(row, col, tile) on the pool's threads for each tile of c: columns by multiples of
// `unit`. The tiles depend on c alone.
void ForTiles(ThreadPool& pool, MutableMatrixView c, Index unit, FinishTile shard);

// c = a b or a b' (trans_b), cut into tiles of c, each `unit` columns wide or a multiple of that.
// finish(row, col, tile) is called with each, which begins at c(row, col), by the thread that has
// it in its cache.
void ShardedGemm(
    ThreadPool& pool, MatrixView a, Trans trans_b, MatrixView b, MutableMatrixView c,
    Index unit = 1, FinishTile finish = [](Index, Index, MutableMatrixView) {});

// c = a' b or c += a' b, cut into tiles of c, or by tokens where c is small. a: t x m, b: t x n,
// c: m x n; t the long side (tokens).
class ShardedTransposedGemm {
 public:
  explicit ShardedTransposedGemm(ThreadPool& pool) : pool_(pool) {}
  void operator()(MatrixView a, MatrixView b, Into into, MutableMatrixView c);

 private:
  void ByTokens(MatrixView a, MatrixView b, Into into, MutableMatrixView c);

  ThreadPool& pool_;
  Matrix
      sums_;  // one a run of tokens, below each other; kept, since fresh memory costs page faults
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_SHARDED_GEMM_H_
