#include "core/methods/coupled_system.h"

#include <algorithm>
#include <utility>

#include "core/kernels/blas.h"
#include "core/methods/linear_map.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

// Tiles of the most rows and columns multiply at full rate; smaller ones only where those would be
// too few for many threads.
constexpr Index kTileRows = 256, kTileCols = 1024, kLeastTile = 64;
constexpr size_t kTilesWanted = 16;

Index SideOf(const AlpsInputs& side) { return side.h.rows(); }

Index RowsOfAll(const OutputMetric& outputs) {
  Index rows = 0;
  for (const OutputMetric::Block& block : outputs.blocks) rows += SideOf(block.b);
  return rows;
}

// Calls work(first, count) for the fewest runs of at most `most` that are nearly alike.
template <typename Work>
void ForRuns(Index size, Index most, const Work& work) {
  const Index runs = (size + most - 1) / most;
  for (Index run = 0; run < runs; ++run) {
    const Index first = size * run / runs;
    work(first, size * (run + 1) / runs - first);
  }
}

}  // namespace

CoupledSystem::CoupledSystem(const AlpsInputs& inputs, const OutputMetric& outputs,
                             ThreadPool& pool)
    : inputs_(inputs), outputs_(outputs), pool_(pool), rows_(RowsOfAll(outputs)) {
  Index rows = kTileRows, cols = kTileCols;
  Cut(rows, cols);
  while (tiles_.size() < kTilesWanted && cols > kLeastTile) {
    (cols > rows ? cols : rows) /= 2;
    Cut(rows, cols);
  }
  half_ = Matrix(rows_, SideOf(inputs_));
}

void CoupledSystem::Cut(Index rows, Index cols) {
  tiles_.clear();
  for (size_t b = 0; b < outputs_.blocks.size(); ++b) {
    const Index begin = outputs_.blocks[b].first;
    ForRuns(SideOf(outputs_.blocks[b].b), rows, [&](Index row, Index row_count) {
      ForRuns(SideOf(inputs_), cols, [&](Index col, Index col_count) {
        tiles_.push_back({b, begin + row, row_count, col, col_count});
      });
    });
  }
}

void CoupledSystem::ForTiles(TileWork work) const {
  pool_.ParallelFor(std::ssize(tiles_),
                    [&](Index i) { work(tiles_[static_cast<size_t>(i)], static_cast<size_t>(i)); });
}

MatrixView CoupledSystem::Below(const Matrix& x, const Tile& tile) const {
  return MatrixView(x).Block(outputs_.blocks[tile.block].first, tile.col, SideOf(BlockOf(tile)),
                             tile.cols);
}

void CoupledSystem::Scale(const Matrix& weights, Matrix& out) const {
  ForTiles([&](const Tile& tile, size_t) {
    const float* const of_rows = &BlockOf(tile).scale[static_cast<size_t>(RowInBlock(tile))];
    for (Index i = 0; i < tile.rows; ++i) {
      for (Index j = tile.col; j < tile.col + tile.cols; ++j) {
        out(tile.row + i, j) =
            weights(tile.row + i, j) * (of_rows[i] * inputs_.scale[static_cast<size_t>(j)]);
      }
    }
  });
}

void CoupledSystem::Unscale(const Matrix& weights, Matrix& out) const {
  ForTiles([&](const Tile& tile, size_t) {
    const float* const of_rows = &BlockOf(tile).scale[static_cast<size_t>(RowInBlock(tile))];
    for (Index i = 0; i < tile.rows; ++i) {
      for (Index j = tile.col; j < tile.col + tile.cols; ++j) {
        const float by = of_rows[i] * inputs_.scale[static_cast<size_t>(j)];
        out(tile.row + i, j) = by == 0 ? 0 : weights(tile.row + i, j) / by;
      }
    }
  });
}

void CoupledSystem::TimesInputs(const Matrix& x, Matrix& out) const {
  ForTiles([&](const Tile& tile, size_t) {
    Gemm(Trans::kNo, Trans::kNo, 1.0f, MatrixView(x).Rows(tile.row, tile.rows),
         MatrixView(inputs_.h).Cols(tile.col, tile.cols), 0.0f, tile.Of(MutableMatrixView(out)));
  });
}

void CoupledSystem::Multiply(const Matrix& x, Matrix& out) {
  TimesInputs(x, half_);
  ForTiles([&](const Tile& tile, size_t) {
    const MatrixView b = BlockOf(tile).h;
    Gemm(Trans::kNo, Trans::kNo, 1.0f, b.Rows(RowInBlock(tile), tile.rows), Below(half_, tile),
         0.0f, tile.Of(MutableMatrixView(out)));
  });
}

// With the eigenvectors of B and H as rows of P and Q, and their values b and h:
// out = P' [(P x Q') / (b h' + r)] Q.
void CoupledSystem::Solve(const Matrix& x, float r, Matrix& out) {
  const MatrixView q = inputs_.vectors;
  ForTiles([&](const Tile& tile, size_t) {
    Gemm(Trans::kNo, Trans::kYes, 1.0f, MatrixView(x).Rows(tile.row, tile.rows),
         q.Rows(tile.col, tile.cols), 0.0f, tile.Of(MutableMatrixView(half_)));
  });
  ForTiles([&](const Tile& tile, size_t) {
    const AlpsInputs& block = BlockOf(tile);
    const Index first = RowInBlock(tile);
    const MutableMatrixView turned = tile.Of(MutableMatrixView(out));
    Gemm(Trans::kNo, Trans::kNo, 1.0f, MatrixView(block.vectors).Rows(first, tile.rows),
         Below(half_, tile), 0.0f, turned);
    const float* const of_inputs = &inputs_.values[static_cast<size_t>(tile.col)];
    for (Index i = 0; i < tile.rows; ++i) {
      const float of_row = block.values[static_cast<size_t>(first + i)];
      for (Index j = 0; j < tile.cols; ++j) turned(i, j) /= of_row * of_inputs[j] + r;
    }
  });
  ForTiles([&](const Tile& tile, size_t) {
    Gemm(Trans::kNo, Trans::kNo, 1.0f, MatrixView(out).Rows(tile.row, tile.rows),
         q.Cols(tile.col, tile.cols), 0.0f, tile.Of(MutableMatrixView(half_)));
  });
  ForTiles([&](const Tile& tile, size_t) {
    const MatrixView p = BlockOf(tile).vectors;
    Gemm(Trans::kYes, Trans::kNo, 1.0f, p.Cols(RowInBlock(tile), tile.rows), Below(half_, tile),
         0.0f, tile.Of(MutableMatrixView(out)));
  });
}

// Conjugate gradients; numbers by tile and by block.
class CoupledSystem::Descent {
 public:
  Descent(CoupledSystem& system, const Matrix& c, const Matrix& mask, Matrix& x)
      : system_(system),
        mask_(mask),
        x_(x),
        residual_(x.rows(), x.cols()),
        direction_(x.rows(), x.cols()),
        product_(x.rows(), x.cols()) {
    system_.Multiply(x_, product_);
    norms_ = ByBlock([&](const Tile& tile) {
      const MutableMatrixView residual = tile.Of(MutableMatrixView(residual_));
      ArrayOf(residual) =
          (ArrayOf(tile.Of(MatrixView(c))) - Array(product_, tile)) * Array(mask_, tile);
      ArrayOf(tile.Of(MutableMatrixView(direction_))) = ArrayOf(residual);
      return InnerProduct(residual, residual);
    });
  }

  void Step() {
    system_.Multiply(direction_, product_);
    const std::vector<double> curvatures = ByBlock([&](const Tile& tile) {
      return InnerProduct(tile.Of(MatrixView(direction_)), tile.Of(MatrixView(product_)));
    });
    const auto runs = [&](const Tile& tile) {  // else solved, as far as float32 goes
      return norms_[tile.block] > 0 && curvatures[tile.block] > 0;
    };
    std::vector<double> norms = ByBlock([&](const Tile& tile) {
      if (!runs(tile)) return 0.0;
      const auto step = static_cast<float>(norms_[tile.block] / curvatures[tile.block]);
      const MutableMatrixView residual = tile.Of(MutableMatrixView(residual_));
      ArrayOf(tile.Of(MutableMatrixView(x_))) += step * Array(direction_, tile);
      ArrayOf(residual) -= step * Array(product_, tile) * Array(mask_, tile);
      return InnerProduct(residual, residual);
    });
    system_.ForTiles([&](const Tile& tile, size_t) {
      if (!runs(tile)) return;
      const auto turn = static_cast<float>(norms[tile.block] / norms_[tile.block]);
      const MutableMatrixView direction = tile.Of(MutableMatrixView(direction_));
      ArrayOf(direction) = Array(residual_, tile) + turn * ArrayOf(direction);
    });
    norms_ = std::move(norms);
  }

 private:
  static ConstArrayMap Array(const Matrix& m, const Tile& tile) {
    return ArrayOf(tile.Of(MatrixView(m)));
  }

  // of_tile(tile) of all tiles, in their order, summed by block.
  template <typename OfTile>
  std::vector<double> ByBlock(const OfTile& of_tile) const {
    std::vector<double> of_tiles(system_.tiles_.size()), sums(system_.outputs_.blocks.size());
    system_.ForTiles([&](const Tile& tile, size_t index) { of_tiles[index] = of_tile(tile); });
    for (size_t t = 0; t < of_tiles.size(); ++t) sums[system_.tiles_[t].block] += of_tiles[t];
    return sums;
  }

  CoupledSystem& system_;
  const Matrix& mask_;
  Matrix& x_;
  Matrix residual_, direction_, product_;
  std::vector<double> norms_;  // of the residual, squared
};

void CoupledSystem::Refine(const Matrix& c, const Matrix& mask, int steps, Matrix& x) {
  if (steps == 0) return;
  Descent descent(*this, c, mask, x);
  for (int step = 0; step < steps; ++step) descent.Step();
}

}  // namespace attnprune
