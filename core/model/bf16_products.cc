#include "core/model/bf16_products.h"

#include <algorithm>
#include <vector>

#include "core/kernels/gemm_rate.h"

namespace attnprune {

void ConvertToBf16(ThreadPool& pool, MatrixView x, Bf16Matrix& out) {
  constexpr Index kRows = 64;
  out.Resize(x.rows(), x.cols());
  pool.ParallelFor((x.rows() + kRows - 1) / kRows, [&](Index shard) {
    const Index first = shard * kRows, end = std::min(x.rows(), first + kRows);
    for (Index i = first; i < end; ++i) out.SetRow(i, x.row(i));
  });
}

void ShardedBf16Gemm(ThreadPool& pool, const Bf16Matrix& a, const Bf16Matrix& b,
                     MutableMatrixView c, FinishTile finish) {
  ForTiles(pool, c, 1, [&](Index row, Index col, MutableMatrixView tile) {
    Bf16Gemm(a, row, b, col, tile);
    finish(row, col, tile);
  });
}

double MeasureBf16GemmRate(ThreadPool& pool) {
  constexpr Index kSize = 512;
  Bf16Matrix a;
  const Matrix ones = Matrix::Constant(kSize, kSize, 1.0f);
  ConvertToBf16(pool, ones, a);
  std::vector<Matrix> products;
  for (Index i = 0; i < pool.threads(); ++i) products.emplace_back(kSize, kSize);
  return MeasureProductRate(pool, 2.0 * kSize * kSize * kSize, [&](Index thread) {
    Bf16Gemm(a, 0, a, 0, products[static_cast<size_t>(thread)]);
  });
}

}  // namespace attnprune
