#include "core/objective/sharded_gemm.h"

#include <algorithm>

#include "core/kernels/attention.h"
#include "core/kernels/blas.h"

namespace attnprune {

void ForRowShards(ThreadPool& pool, Index total, Index rows,
                  absl::FunctionRef<void(Index, Index)> shard) {
  pool.ParallelFor((total + rows - 1) / rows, [&](Index i) {
    const Index first = i * rows;
    shard(first, std::min(rows, total - first));
  });
}

namespace {

// A result so small that its rows are not enough for several threads.
constexpr Index kSmallResult = Index{128} * 128;
constexpr Index kTokensPerSum = 512;

// By runs of tokens, each with a sum of its own; the sums are added up in order.
void GemmByTokens(ThreadPool& pool, MatrixView a, MatrixView b, Into into, MutableMatrixView c) {
  const Index runs = (a.rows() + kTokensPerSum - 1) / kTokensPerSum;
  Matrix sums(runs * c.rows(), c.cols());
  ForRowShards(pool, a.rows(), kTokensPerSum, [&](Index first, Index count) {
    ScopedFlushDenormals flush;
    const Index run = first / kTokensPerSum;
    Gemm(Trans::kYes, Trans::kNo, 1.0f, a.Rows(first, count), b.Rows(first, count), 0.0f,
         MutableMatrixView(sums).Rows(run * c.rows(), c.rows()));
  });
  for (Index run = 0; run < runs; ++run) {
    const bool replace = run == 0 && into == Into::kReplace;
    for (Index i = 0; i < c.rows(); ++i) {
      const float* sum = sums.row(run * c.rows() + i);
      float* row = c.row(i);
      for (Index j = 0; j < c.cols(); ++j) row[j] = replace ? sum[j] : row[j] + sum[j];
    }
  }
}

void GemmByRows(ThreadPool& pool, MatrixView a, MatrixView b, Into into, MutableMatrixView c) {
  constexpr Index kRows = 256;
  const float beta = into == Into::kAdd ? 1.0f : 0.0f;
  ForRowShards(pool, c.rows(), kRows, [&](Index first, Index count) {
    ScopedFlushDenormals flush;
    Gemm(Trans::kYes, Trans::kNo, 1.0f, a.Cols(first, count), b, beta, c.Rows(first, count));
  });
}

}  // namespace

void ShardedTransposedGemm(ThreadPool& pool, MatrixView a, MatrixView b, Into into,
                           MutableMatrixView c) {
  (c.size() <= kSmallResult ? GemmByTokens : GemmByRows)(pool, a, b, into, c);
}

}  // namespace attnprune
