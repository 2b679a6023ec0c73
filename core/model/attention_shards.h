// The attention of one layer on some sequences, in shards of one sequence and one key-value head.
#ifndef ATTNPRUNE_CORE_MODEL_ATTENTION_SHARDS_H_
#define ATTNPRUNE_CORE_MODEL_ATTENTION_SHARDS_H_

#include <map>
#include <vector>

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/kernels/attention.h"
#include "core/model/model_options.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Immutable. Queries, keys and values are those of all sequences, below each other: tokens x (heads
// head_dim) or tokens x (kv_heads head_dim), normed and turned.
class AttentionShards {
 public:
  struct Shard {
    Index first, tokens;  // rows of the sequence
    Index kv_head;
    Index first_head, end_head;  // that read kv_head
    const AttentionLayout* layout;
  };

  // options must outlive it.
  AttentionShards(const ModelOptions& options, Index layer, absl::Span<const Index> lengths);

  Index count() const { return static_cast<Index>(begins_.size()) * options_.kv_heads; }
  Shard at(Index shard) const;

  // Floats of room for the calls below, of any shard.
  Index key_floats() const { return key_floats_; }          // Pack
  Index softmax_floats() const { return softmax_floats_; }  // Softmax
  Index block_floats() const { return block_floats_; }      // rows x stride of a block

  // A sequence's rows of one head.
  MatrixView Head(const Shard& shard, MatrixView rows, Index head) const;
  MutableMatrixView Head(const Shard& shard, MutableMatrixView rows, Index head) const;

  KeyPanels Pack(const Shard& shard, MatrixView keys, float* room) const;
  // The attention of a block of queries, zero where a key is not allowed; a view of `room`.
  MatrixView Softmax(const Shard& shard, Index block, Index head, MatrixView queries,
                     const KeyPanels& keys, float* room) const;

  float scale() const { return static_cast<float>(options_.attention_scale); }
  float softcap() const { return static_cast<float>(options_.softcap); }  // 0: none
  // What alibi adds to the logits of each key; null: nothing.
  const float* KeyBias(Index head) const { return alibi_.empty() ? nullptr : alibi_.row(head); }

 private:
  const ModelOptions& options_;
  std::vector<Index> lengths_, begins_;       // one a sequence
  std::map<Index, AttentionLayout> layouts_;  // by length: sequences are mostly of one
  Matrix alibi_;
  Index key_floats_ = 0, softmax_floats_ = 0, block_floats_ = 0;
};

// Scratch memory of each of a pool's threads, kept from call to call: it grows only.
class ThreadScratch {
 public:
  // Before a ParallelFor whose workers take `floats` of it each.
  void Reserve(const ThreadPool& pool, Index floats);
  float* of(int worker) { return rooms_[static_cast<size_t>(worker)].data(); }

 private:
  std::vector<std::vector<float>> rooms_;
};

// mixed = the weighted values of every head.
void MixValues(ThreadPool& pool, const AttentionShards& shards, MatrixView q, MatrixView k,
               MatrixView v, MutableMatrixView mixed, ThreadScratch& scratch);

struct AttentionValues {
  MatrixView q, k, v, mixed;
};
struct AttentionGradients {
  MutableMatrixView q, k, v;
};

// What the attention matrices of all heads and sequences are pulled towards: those that other
// queries and keys give, f*. Shapes as AttentionValues's.
struct AttentionPull {
  MatrixView q, k;
  float factor;  // factor ||f - f*||_F^2 is part of the scalar whose gradient is taken
};
// Sums over heads and sequences.
struct AttentionDistance {
  double squared = 0;  // ||f - f*||_F^2
  double target = 0;   // ||f*||_F^2
};

// From d_mixed, the gradient at what MixValues makes of q, k and v, to theirs. With S~ the capped
// logits, f = softmax(S~) and O = f V of a head:
//   dV = f' dO,  dS = f o (dO V' - rowsum(dO o O)) o (1 - (S~ / c)^2),  dQ = s dS K,  dK = s dS' Q
// (c the softcap, s the scale), dK and dV summed over the heads that share them, in their order.
// By blocks of rows: no n x n temporary exists. O(n^2 head_dim) a head. With a pull
//   dS = f o (G - rowsum(f o G)) o (1 - (S~ / c)^2),  G = dO V' + 2 factor (f - f*)
// and the result is the distance; without one it is 0.
AttentionDistance AttentionBackward(ThreadPool& pool, const AttentionShards& shards,
                                    const AttentionValues& values, MatrixView d_mixed,
                                    const AttentionGradients& gradients, ThreadScratch& scratch,
                                    const AttentionPull* pull = nullptr);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_ATTENTION_SHARDS_H_
