#include "core/objective/sharded_gemm.h"

#include <algorithm>

#include "core/kernels/attention.h"

namespace attnprune {
namespace {

Index CeilDivide(Index a, Index b) { return (a + b - 1) / b; }

// A result so small that its tiles are not enough for several threads.
constexpr Index kSmallResult = Index{128} * 128;
constexpr Index kTokensPerSum = 512;

}  // namespace

// A product packs its share of both factors: of a wide c, tiles that are nearly square pack the
// least.
void ForTiles(ThreadPool& pool, MutableMatrixView c, Index unit, FinishTile shard) {
  constexpr Index kCols = 1024;
  const Index tile_rows = c.cols() > kCols / 2 ? 512 : 256;
  const Index tile_cols = std::max<Index>(kCols / unit, 1) * unit;
  const Index across = CeilDivide(c.cols(), tile_cols);
  pool.ParallelFor(CeilDivide(c.rows(), tile_rows) * across, [&](Index i) {
    ScopedFlushDenormals flush;
    const Index row = i / across * tile_rows, col = i % across * tile_cols;
    shard(row, col,
          c.Block(row, col, std::min(tile_rows, c.rows() - row),
                  std::min(tile_cols, c.cols() - col)));
  });
}

void ShardedGemm(ThreadPool& pool, MatrixView a, Trans trans_b, MatrixView b, MutableMatrixView c,
                 Index unit, FinishTile finish) {
  ForTiles(pool, c, unit, [&](Index row, Index col, MutableMatrixView tile) {
    const MatrixView right =
        trans_b == Trans::kYes ? b.Rows(col, tile.cols()) : b.Cols(col, tile.cols());
    Gemm(Trans::kNo, trans_b, 1.0f, a.Rows(row, tile.rows()), right, 0.0f, tile);
    finish(row, col, tile);
  });
}

// By runs of tokens, each with a sum of its own; the sums are added up in order.
void ShardedTransposedGemm::ByTokens(MatrixView a, MatrixView b, Into into, MutableMatrixView c) {
  const Index runs = CeilDivide(a.rows(), kTokensPerSum);
  if (sums_.rows() < runs * c.rows() || sums_.cols() != c.cols()) {
    sums_ = Matrix(runs * c.rows(), c.cols());
  }
  pool_.ParallelFor(runs, [&](Index run) {
    ScopedFlushDenormals flush;
    const Index first = run * kTokensPerSum, count = std::min(kTokensPerSum, a.rows() - first);
    Gemm(Trans::kYes, Trans::kNo, 1.0f, a.Rows(first, count), b.Rows(first, count), 0.0f,
         MutableMatrixView(sums_).Rows(run * c.rows(), c.rows()));
  });
  for (Index run = 0; run < runs; ++run) {
    const bool replace = run == 0 && into == Into::kReplace;
    for (Index i = 0; i < c.rows(); ++i) {
      const float* sum = sums_.row(run * c.rows() + i);
      float* row = c.row(i);
      for (Index j = 0; j < c.cols(); ++j) row[j] = replace ? sum[j] : row[j] + sum[j];
    }
  }
}

void ShardedTransposedGemm::operator()(MatrixView a, MatrixView b, Into into, MutableMatrixView c) {
  if (c.size() <= kSmallResult) return ByTokens(a, b, into, c);
  const float beta = into == Into::kAdd ? 1.0f : 0.0f;
  ForTiles(pool_, c, 1, [&](Index row, Index col, MutableMatrixView tile) {
    Gemm(Trans::kYes, Trans::kNo, 1.0f, a.Cols(row, tile.rows()), b.Cols(col, tile.cols()), beta,
         tile);
  });
}

}  // namespace attnprune
