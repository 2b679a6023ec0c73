#include "core/objective/sharded_gemm.h"

#include <algorithm>

#include "core/kernels/blas.h"

namespace attnprune {

void ForRowShards(ThreadPool& pool, Index total, Index rows,
                  absl::FunctionRef<void(Index, Index)> shard) {
  pool.ParallelFor((total + rows - 1) / rows, [&](Index i) {
    const Index first = i * rows;
    shard(first, std::min(rows, total - first));
  });
}

void ShardedTransposedGemm(ThreadPool& pool, float alpha, MatrixView a, MatrixView b,
                           MutableMatrixView c) {
  // Half of a small matrix, so that two threads share it; else tall enough for GEMM's full rate.
  const Index rows = std::clamp<Index>((c.rows() + 1) / 2, 1, 128);
  ForRowShards(pool, c.rows(), rows, [&](Index first, Index count) {
    Gemm(Trans::kYes, Trans::kNo, alpha, a.Cols(first, count), b, 0.0f, c.Rows(first, count));
  });
}

}  // namespace attnprune
