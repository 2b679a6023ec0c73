// The linear system of an ALPS whose outputs have a metric, so that a weight's best value depends
// on those of the other outputs:  B U H = C.
#ifndef ATTNPRUNE_CORE_METHODS_COUPLED_SYSTEM_H_
#define ATTNPRUNE_CORE_METHODS_COUPLED_SYSTEM_H_

#include <cstddef>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/base/thread_pool.h"
#include "core/methods/alps_inputs.h"
#include "core/methods/output_metric.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// All matrices are outputs x inputs, in the scale that makes the diagonals of B and H 1: W_ij
// counts as W_ij s_i t_j, with s_i^2 = B_ii and t_j^2 = H_jj. Products are cut into tiles by the
// shape, so that all threads work on them whether B has one block or many; the bits do not depend
// on the threads. One caller at a time.
class CoupledSystem {
 public:
  // All must outlive it.
  CoupledSystem(const AlpsInputs& inputs, const OutputMetric& outputs, ThreadPool& pool);

  // Weights into that scale and back, where a scale is 0 to 0. `out` may be `weights`.
  void Scale(const Matrix& weights, Matrix& out) const;
  void Unscale(const Matrix& weights, Matrix& out) const;

  // out = B x H. `out` may be `x`.
  void Multiply(const Matrix& x, Matrix& out);
  // out with B out H + r out = x; r > 0. Not in place.
  void Solve(const Matrix& x, float r, Matrix& out);
  // From x, 0 wherever `mask` is: `steps` of conjugate gradients on B x H = c in the entries where
  // `mask` is 1. The blocks of B, which do not meet, go at a pace of their own.
  void Refine(const Matrix& c, const Matrix& mask, int steps, Matrix& x);

 private:
  // Rows of one block and columns.
  struct Tile {
    size_t block;
    Index row, rows, col, cols;
    template <typename View>
    View Of(View m) const {
      return m.Block(row, col, rows, cols);
    }
  };
  class Descent;
  using TileWork = absl::FunctionRef<void(const Tile& tile, size_t index)>;

  // Tiles of at most so many rows and columns.
  void Cut(Index rows, Index cols);
  void ForTiles(TileWork work) const;
  const AlpsInputs& BlockOf(const Tile& tile) const { return outputs_.blocks[tile.block].b; }
  // The tile's first row within its block.
  Index RowInBlock(const Tile& tile) const { return tile.row - outputs_.blocks[tile.block].first; }
  // All of the block's rows in the tile's columns.
  MatrixView Below(const Matrix& x, const Tile& tile) const;
  // out = x H.
  void TimesInputs(const Matrix& x, Matrix& out) const;

  const AlpsInputs& inputs_;
  const OutputMetric& outputs_;
  ThreadPool& pool_;
  const Index rows_;
  std::vector<Tile> tiles_;
  Matrix half_;  // kept, since fresh memory costs page faults
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_COUPLED_SYSTEM_H_
