#include "core/kernels/gram.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/blas.h"

namespace attnprune {
namespace {

constexpr Index kTokensPerSum = 256;
constexpr Index kTile = 128;             // features a side; a tile of the result is one shard
constexpr Index kColumnsPerPanel = 256;  // of ColumnNorms

Index CeilDivide(Index a, Index b) { return (a + b - 1) / b; }

// Adds rows [row, row + rows) x columns [col, col + cols) of X'X to gram, and makes their mirror
// image; of a tile on the diagonal only the lower half is used, so that the result is exactly
// symmetric.
void AddTile(MatrixView x, Index row, Index col, GramMatrix* gram) {
  const Index rows = std::min(kTile, x.cols() - row);
  const Index cols = std::min(kTile, x.cols() - col);
  Matrix sum(rows, cols);
  for (Index t = 0; t < x.rows(); t += kTokensPerSum) {
    const MatrixView tokens = x.Rows(t, std::min(kTokensPerSum, x.rows() - t));
    Gemm(Trans::kYes, Trans::kNo, 1.0f, tokens.Cols(row, rows), tokens.Cols(col, cols), 0.0f, sum);
    for (Index i = 0; i < rows; ++i) {
      const Index end = row == col ? i + 1 : cols;
      for (Index j = 0; j < end; ++j) (*gram)(row + i, col + j) += static_cast<double>(sum(i, j));
    }
  }
  for (Index i = 0; i < rows; ++i) {
    const Index end = row == col ? i : cols;
    for (Index j = 0; j < end; ++j) (*gram)(col + j, row + i) = (*gram)(row + i, col + j);
  }
}

// The same of X'Y, without a mirror image.
void AddCrossTile(MatrixView x, MatrixView y, Index row, Index col, GramMatrix* cross) {
  const Index rows = std::min(kTile, x.cols() - row);
  const Index cols = std::min(kTile, y.cols() - col);
  Matrix sum(rows, cols);
  for (Index t = 0; t < x.rows(); t += kTokensPerSum) {
    const Index tokens = std::min(kTokensPerSum, x.rows() - t);
    Gemm(Trans::kYes, Trans::kNo, 1.0f, x.Rows(t, tokens).Cols(row, rows),
         y.Rows(t, tokens).Cols(col, cols), 0.0f, sum);
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) {
        (*cross)(row + i, col + j) += static_cast<double>(sum(i, j));
      }
    }
  }
}

void ComputeNorms(MatrixView x, absl::Span<double> norms) {
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index j = 0; j < x.cols(); ++j) {
      const double value = static_cast<double>(x(t, j));
      norms[static_cast<size_t>(j)] += value * value;
    }
  }
  for (double& norm : norms) norm = std::sqrt(norm);
}

}  // namespace

void AddGram(MatrixView x, ThreadPool& pool, GramMatrix& gram) {
  const Index tiles = CeilDivide(x.cols(), kTile);
  pool.ParallelFor(tiles * tiles, [&](Index shard) {
    const Index row = shard / tiles, col = shard % tiles;
    if (col <= row) AddTile(x, row * kTile, col * kTile, &gram);
  });
}

void AddCross(MatrixView x, MatrixView y, ThreadPool& pool, GramMatrix& cross) {
  const Index tiles = CeilDivide(x.cols(), kTile);
  pool.ParallelFor(tiles * tiles, [&](Index shard) {
    AddCrossTile(x, y, shard / tiles * kTile, shard % tiles * kTile, &cross);
  });
}

GramMatrix Gram(MatrixView x, ThreadPool& pool) {
  GramMatrix gram(x.cols());
  AddGram(x, pool, gram);
  return gram;
}

void AddColumnSquares(MatrixView x, std::vector<double>& squares) {
  squares.resize(static_cast<size_t>(x.cols()));
  for (Index i = 0; i < x.rows(); ++i) {
    const float* const row = x.row(i);
    for (size_t j = 0; j < squares.size(); ++j) {
      const double entry = row[j];
      squares[j] += entry * entry;
    }
  }
}

std::vector<double> ColumnNorms(MatrixView x, ThreadPool& pool) {
  std::vector<double> norms(static_cast<size_t>(x.cols()));
  pool.ParallelFor(CeilDivide(x.cols(), kColumnsPerPanel), [&](Index panel) {
    const Index begin = panel * kColumnsPerPanel;
    const Index width = std::min(kColumnsPerPanel, x.cols() - begin);
    ComputeNorms(x.Cols(begin, width), absl::MakeSpan(norms).subspan(static_cast<size_t>(begin),
                                                                     static_cast<size_t>(width)));
  });
  return norms;
}

}  // namespace attnprune
