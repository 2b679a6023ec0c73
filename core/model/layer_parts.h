// What the forward and the backward pass of a layer share.
#ifndef ATTNPRUNE_CORE_MODEL_LAYER_PARTS_H_
#define ATTNPRUNE_CORE_MODEL_LAYER_PARTS_H_

#include <algorithm>
#include <vector>

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/kernels/attention.h"
#include "core/kernels/rope.h"
#include "core/model/model_weights.h"
#include "core/objective/sharded_gemm.h"
#include "core/tensor/matrix.h"

namespace attnprune {

class LayerCache;

// Some sequences that a layer works on together.
struct LayerChunk {
  Index first_row, rows;  // of all tokens
  absl::Span<const Index> lengths;
  LayerCache* cache = nullptr;  // not null: a row is the next token of its sequence
};

// Calls work(first, rows) for runs of rows, on the pool's threads.
template <typename Work>
void ForRows(ThreadPool& pool, Index rows, Work work) {
  constexpr Index kShardRows = 64;
  pool.ParallelFor((rows + kShardRows - 1) / kShardRows, [&](Index shard) {
    ScopedFlushDenormals flush;
    const Index first = shard * kShardRows;
    work(first, std::min(kShardRows, rows - first));
  });
}

// The first rows of a matrix that has room for them, made anew where it has not.
MutableMatrixView Room(Matrix& matrix, Index rows, Index cols);

// to += factor from, by the calling thread.
void AddScaled(MatrixView from, float factor, MutableMatrixView to);
// The same on the pool's threads.
void AddScaled(ThreadPool& pool, MatrixView from, float factor, MutableMatrixView to);

// Entries beyond +-bound become +-bound.
void Clip(float bound, MutableMatrixView x);

// to += row, of each row; `row` begins at a vector's entry first_col. Nothing where it is empty.
void AddRow(const std::vector<float>& row, Index first_col, MutableMatrixView to);

// out = input W' + b, in float32.
void ApplyMap(ThreadPool& pool, const LayerWeights::Map& map, MatrixView input,
              MutableMatrixView out);
// From the gradient at a map's output to the one at its input: out = gradient W, or added.
void ApplyMapBackward(ThreadPool& pool, MatrixView weight, MatrixView gradient, Into into,
                      MutableMatrixView out);

// y = the norm of x, or x where there is none; y may be x.
void ApplyNorm(ThreadPool& pool, const OptionalNorm& norm, MatrixView x, MutableMatrixView y);
// d: the gradient at the norm of x on entry, at x on return.
void ApplyNormBackward(ThreadPool& pool, const OptionalNorm& norm, MatrixView x,
                       MutableMatrixView d);

// Rotate (core/kernels/rope.h) of all heads of the sequences that lie below each other.
void RotateSequences(ThreadPool& pool, const RopeTables& tables, Index head_dim,
                     absl::Span<const Index> lengths, float sign, MutableMatrixView heads);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_LAYER_PARTS_H_
