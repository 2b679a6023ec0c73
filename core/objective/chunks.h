// Which batches are worked on together, and the memory for it.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_CHUNKS_H_
#define ATTNPRUNE_CORE_OBJECTIVE_CHUNKS_H_

#include <algorithm>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/problem/batches.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Consecutive batches and their tokens.
struct Chunk {
  Index first_batch = 0, batches = 0;
  Index first_token = 0, tokens = 0;
};

// Cuts the batches so that a chunk's tokens times `width` are at most `floats`, or it is one batch.
// Projections and their gradients exist for one chunk at a time; within it, one product serves all
// batches.
std::vector<Chunk> CutIntoChunks(const Batches& batches, Index width, Index floats);

// The share of the batches' tokens that is done after this chunk, in (0, 1].
double ShareAfter(const Chunk& chunk, const Batches& batches);

// Tokens of the largest.
Index LargestChunk(const std::vector<Chunk>& chunks);

// What a chunk of batches takes; nothing in it outlasts a call. Objectives that are used one at a
// time share one, which is then as large as the largest chunk of any of them.
struct Workspace {
  // Tokens of a chunk x outputs. Queries of the fused problem are X W, and it has no keys.
  Matrix queries, keys, d_queries, d_keys;
  Matrix dense_queries, dense_keys;      // where dense projections are made again
  Matrix clipped_queries, clipped_keys;  // QkProjection's, where the layer has a norm or a clip
  std::vector<Matrix> scratch;           // one row a worker of the pool

  // `matrix` with at least so many rows, its old contents lost if it grows.
  static Matrix& Grow(Matrix& matrix, Index rows, Index cols) {
    if (matrix.rows() < rows || matrix.cols() != cols) {
      matrix = Matrix();  // first, so that both never exist at once
      matrix = Matrix(rows, cols);
    }
    return matrix;
  }

  void GrowScratch(const ThreadPool& pool, Index floats) {
    scratch.resize(std::max(scratch.size(), static_cast<size_t>(pool.threads())));
    for (Matrix& row : scratch) {
      if (row.size() < floats) row = Matrix(1, floats);
    }
  }
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_CHUNKS_H_
