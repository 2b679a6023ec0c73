// The keys and values that a layer has made of some sequences so far, for the token that comes next
// in each.
#ifndef ATTNPRUNE_CORE_MODEL_LAYER_CACHE_H_
#define ATTNPRUNE_CORE_MODEL_LAYER_CACHE_H_

#include <vector>

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/kernels/rope.h"
#include "core/model/model_options.h"
#include "core/problem/attention_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Of causal models. All sequences are at the same position. Matrices have a row each for the first
// sequences, as many as go on. One caller at a time, which uses the pool's threads; bits as
// LayerForward's.
class LayerCache {
 public:
  // lengths: tokens that each sequence will have, by which keys and queries are turned, so that
  // they are those of a pass over the whole sequence. options must outlive it. Holds 2 tokens x
  // kv_heads head_dim floats.
  LayerCache(const ModelOptions& options, Index layer, absl::Span<const Index> lengths);

  // The rotary embedding of all heads at this position, in place.
  void Turn(ThreadPool& pool, MutableMatrixView heads) const;

  // Keeps k and v, and gives the weighted values of every head; ends the position. q: rows x (heads
  // head_dim), as mixed; k, v: rows x (kv_heads head_dim); normed and turned.
  void Mix(ThreadPool& pool, MatrixView q, MatrixView k, MatrixView v, MutableMatrixView mixed);

 private:
  void MixRow(Index row, MatrixView q, MatrixView k, MatrixView v, MutableMatrixView mixed,
              std::vector<float>& room);
  void ToSoftmax(Index head, Index first_key, MutableMatrixView logits) const;

  const ModelOptions& options_;
  const AttentionMask mask_;
  std::vector<Index> lengths_, begins_;  // by sequence; where its keys begin
  RopeTables rope_;
  bool has_rope_ = false;
  Matrix alibi_;
  Matrix keys_, values_;  // by sequence, key-value head and position: head_dim each
  Index position_ = 0;
  std::vector<std::vector<float>> rooms_;  // one a thread
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_LAYER_CACHE_H_
