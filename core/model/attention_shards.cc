#include "core/model/attention_shards.h"

#include <algorithm>
#include <utility>

#include "core/kernels/alibi.h"
#include "core/kernels/blas.h"

namespace attnprune {
namespace {

AttentionLayout LayoutOf(const AttentionMask& mask, Index tokens) {
  std::vector<KeyRange> ranges;
  for (Index i = 0; i < tokens; ++i) {
    const AttentionMask::Range keys = mask.Keys(i, tokens);
    ranges.push_back({keys.begin, keys.end});
  }
  return AttentionLayout(std::move(ranges));
}

}  // namespace

AttentionShards::AttentionShards(const ModelOptions& options, Index layer,
                                 absl::Span<const Index> lengths)
    : options_(options), lengths_(lengths.begin(), lengths.end()) {
  const AttentionMask mask = options.Mask(layer);
  Index rows = 0, longest = 0;
  for (const Index tokens : lengths) {
    if (!layouts_.contains(tokens)) layouts_[tokens] = LayoutOf(mask, tokens);
    begins_.push_back(rows);
    rows += tokens;
    longest = std::max(longest, tokens);
  }
  alibi_ = AlibiBias(options.alibi, options.heads, longest, scale());
  key_floats_ = KeyPanelFloats(longest, options.head_dim, PanelUse::kLogits);
  for (const auto& [tokens, layout] : layouts_) {
    softmax_floats_ = std::max(softmax_floats_, AttentionScratchSize(layout, options.head_dim));
    block_floats_ = std::max(block_floats_, layout.block_size());
  }
}

AttentionShards::Shard AttentionShards::at(Index shard) const {
  const auto sequence = static_cast<size_t>(shard / options_.kv_heads);
  const Index kv_head = shard % options_.kv_heads, group = options_.heads / options_.kv_heads;
  const Index tokens = lengths_[sequence];
  return {.first = begins_[sequence],
          .tokens = tokens,
          .kv_head = kv_head,
          .first_head = kv_head * group,
          .end_head = (kv_head + 1) * group,
          .layout = &layouts_.at(tokens)};
}

MatrixView AttentionShards::Head(const Shard& shard, MatrixView rows, Index head) const {
  return rows.Block(shard.first, head * options_.head_dim, shard.tokens, options_.head_dim);
}
MutableMatrixView AttentionShards::Head(const Shard& shard, MutableMatrixView rows,
                                        Index head) const {
  return rows.Block(shard.first, head * options_.head_dim, shard.tokens, options_.head_dim);
}

KeyPanels AttentionShards::Pack(const Shard& shard, MatrixView keys, float* room) const {
  return PackKeys(Head(shard, keys, shard.kv_head), PanelUse::kLogits, room);
}

MatrixView AttentionShards::Softmax(const Shard& shard, Index block, Index head, MatrixView queries,
                                    const KeyPanels& keys, float* room) const {
  AttentionHead work =
      HeadOf(*shard.layout, block, block + 1, Head(shard, queries, head), keys, scale());
  work.softcap = softcap();
  work.key_bias = KeyBias(head);
  AttentionKernelsOfThisCpu().dense(work, room, nullptr, nullptr, nullptr);
  const AttentionBlock& at = shard.layout->blocks()[static_cast<size_t>(block)];
  return {room, at.rows, at.keys, at.stride};
}

void ThreadScratch::Reserve(const ThreadPool& pool, Index floats) {
  rooms_.resize(static_cast<size_t>(pool.threads()));
  for (std::vector<float>& room : rooms_) {
    if (room.size() < static_cast<size_t>(floats)) room.resize(static_cast<size_t>(floats));
  }
}

void MixValues(ThreadPool& pool, const AttentionShards& shards, MatrixView q, MatrixView k,
               MatrixView v, MutableMatrixView mixed, ThreadScratch& scratch) {
  scratch.Reserve(pool, shards.key_floats() + shards.softmax_floats());
  pool.ParallelFor(shards.count(), [&](Index i, int worker) {
    ScopedFlushDenormals flush;
    const AttentionShards::Shard shard = shards.at(i);
    float* const room = scratch.of(worker);
    const KeyPanels keys = shards.Pack(shard, k, room);
    const MatrixView values = shards.Head(shard, v, shard.kv_head);
    for (Index head = shard.first_head; head < shard.end_head; ++head) {
      const MutableMatrixView out = shards.Head(shard, mixed, head);
      for (size_t b = 0; b < shard.layout->blocks().size(); ++b) {
        const AttentionBlock& block = shard.layout->blocks()[b];
        const MatrixView f =
            shards.Softmax(shard, static_cast<Index>(b), head, q, keys, room + shards.key_floats());
        Gemm(Trans::kNo, Trans::kNo, 1.0f, f, values.Rows(block.key, block.keys), 0.0f,
             out.Rows(block.row, block.rows));
      }
    }
  });
}

}  // namespace attnprune
