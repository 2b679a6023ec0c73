#include "core/model/layer_parts.h"

#include <numeric>

#include "core/kernels/blas.h"
#include "core/kernels/norm.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {

MutableMatrixView Room(Matrix& matrix, Index rows, Index cols) {
  if (matrix.rows() < rows || matrix.cols() != cols) matrix = Matrix(rows, cols);
  return MutableMatrixView(matrix).Rows(0, rows);
}

void AddScaled(MatrixView from, float factor, MutableMatrixView to) {
  for (Index i = 0; i < to.rows(); ++i) {
    for (Index j = 0; j < to.cols(); ++j) to(i, j) += factor * from(i, j);
  }
}

void AddScaled(ThreadPool& pool, MatrixView from, float factor, MutableMatrixView to) {
  ForRows(pool, to.rows(), [&](Index row, Index count) {
    AddScaled(from.Rows(row, count), factor, to.Rows(row, count));
  });
}

void Clip(float bound, MutableMatrixView x) {
  for (Index i = 0; i < x.rows(); ++i) {
    for (Index j = 0; j < x.cols(); ++j) x(i, j) = std::clamp(x(i, j), -bound, bound);
  }
}

void AddRow(const std::vector<float>& row, Index first_col, MutableMatrixView to) {
  if (row.empty()) return;
  const float* const add = row.data() + first_col;
  for (Index i = 0; i < to.rows(); ++i) {
    for (Index j = 0; j < to.cols(); ++j) to(i, j) += add[j];
  }
}

void ApplyMap(ThreadPool& pool, const LayerWeights::Map& map, MatrixView input,
              MutableMatrixView out) {
  ShardedGemm(pool, input, Trans::kYes, map.weight, out, 1,
              [&map](Index, Index col, MutableMatrixView tile) { AddRow(map.bias, col, tile); });
}

void ApplyMapBackward(ThreadPool& pool, MatrixView weight, MatrixView gradient, Into into,
                      MutableMatrixView out) {
  const float beta = into == Into::kAdd ? 1.0f : 0.0f;
  ForTiles(pool, out, 1, [&](Index row, Index col, MutableMatrixView tile) {
    Gemm(Trans::kNo, Trans::kNo, 1.0f, gradient.Rows(row, tile.rows()),
         weight.Cols(col, tile.cols()), beta, tile);
  });
}

void ApplyNorm(ThreadPool& pool, const OptionalNorm& norm, MatrixView x, MutableMatrixView y) {
  if (!norm.has_value() && x.data() == y.data()) return;
  ForRows(pool, x.rows(), [&](Index row, Index count) {
    if (norm.has_value()) {
      Normalize(norm->view(), x.Rows(row, count), y.Rows(row, count));
    } else {
      CopyRows(x.Rows(row, count), y.Rows(row, count));
    }
  });
}

void ApplyNormBackward(ThreadPool& pool, const OptionalNorm& norm, MatrixView x,
                       MutableMatrixView d) {
  if (!norm.has_value()) return;
  ForRows(pool, d.rows(), [&](Index row, Index count) {
    NormalizeBackward(norm->view(), x.Rows(row, count), d.Rows(row, count));
  });
}

void RotateSequences(ThreadPool& pool, const RopeTables& tables, Index head_dim,
                     absl::Span<const Index> lengths, float sign, MutableMatrixView heads) {
  std::vector<Index> positions(
      static_cast<size_t>(*std::max_element(lengths.begin(), lengths.end())));
  std::iota(positions.begin(), positions.end(), Index{0});
  Index first = 0;
  for (const Index tokens : lengths) {
    ForRows(pool, tokens, [&](Index row, Index count) {
      Rotate(tables.of(tokens), head_dim, &positions[static_cast<size_t>(row)], sign,
             heads.Rows(first + row, count));
    });
    first += tokens;
  }
}

}  // namespace attnprune
