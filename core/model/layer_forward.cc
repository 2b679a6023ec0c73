#include "core/model/layer_forward.h"

#include <algorithm>
#include <numeric>

#include "core/kernels/activation.h"
#include "core/model/bf16_products.h"
#include "core/model/layer_parts.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {

bool ForChunks(absl::Span<const Index> lengths,
               absl::FunctionRef<bool(Index first_row, absl::Span<const Index> lengths)> visit) {
  Index first_row = 0;
  for (size_t first = 0; first < lengths.size();) {
    size_t end = first;
    Index rows = 0;
    do {
      rows += lengths[end++];
    } while (end < lengths.size() && rows + lengths[end] <= LayerForward::kChunkTokens);
    if (!visit(first_row, lengths.subspan(first, end - first))) return false;
    first_row += rows;
    first = end;
  }
  return true;
}

LayerPoint LastPointBefore(LayerHooks::Until until) {
  if (until == LayerHooks::Until::kAttentionInput) return LayerPoint::kInput;
  return until == LayerHooks::Until::kOutputInput ? LayerPoint::kMixed : LayerPoint::kAttended;
}

bool LayerForward::Run(Index layer, const LayerWeights& weights, absl::Span<const Index> lengths,
                       MutableMatrixView x, const LayerHooks& hooks) {
  const absl::optional<Rope>& rope = options_.layers[static_cast<size_t>(layer)].rope;
  rope_ = rope.has_value() ? RopeTables(*rope, options_.head_dim, lengths) : RopeTables();
  has_rope_ = rope.has_value();
  if (compute_ == Compute::kBf16) {
    for (size_t i = 0; i < half_.size(); ++i) {
      ConvertToBf16(pool_, weights.maps[i].weight, half_[i]);
    }
  }
  return ForChunks(lengths, [&](Index first_row, absl::Span<const Index> together) {
    const Index rows = std::accumulate(together.begin(), together.end(), Index{0});
    RunChunk(layer, weights, {first_row, rows, together}, x, hooks);
    return !hooks.goes_on || hooks.goes_on(first_row + rows);
  });
}

void LayerForward::Step(const LayerWeights& weights, LayerCache& cache, MutableMatrixView x) {
  RunChunk(/*layer=*/-1, weights, {0, x.rows(), {}, &cache}, x, {});
}

void LayerForward::RunChunk(Index layer, const LayerWeights& weights, const LayerChunk& chunk,
                            MutableMatrixView x, const LayerHooks& hooks) {
  const Index d = options_.hidden_size, rows = chunk.rows, first = chunk.first_row;
  const auto scale = static_cast<float>(options_.residual_scale);
  const MutableMatrixView here = x.Rows(first, rows);
  const MutableMatrixView attended = Room(attention_out_, rows, d);
  if (!RunAttention(layer, weights, chunk, here, attended, hooks)) return;
  const MutableMatrixView normed = Room(normed_, rows, d), mlp = Room(mlp_out_, rows, d);
  if (options_.parallel) {
    ApplyNorm(pool_, weights.mlp_in.has_value() ? weights.mlp_in : weights.attn_in, here, normed);
  } else {
    AddScaled(pool_, attended, scale, here);
    ApplyNorm(pool_, weights.attn_after, here, here);
    ApplyNorm(pool_, weights.mlp_in, here, normed);
  }
  RunMlp(weights, first, normed, mlp, hooks);
  if (hooks.until != LayerHooks::Until::kEnd) return;
  ApplyNorm(pool_, weights.mlp_out, mlp, mlp);
  ForRows(pool_, rows, [&](Index row, Index count) {
    if (options_.parallel) AddScaled(attended.Rows(row, count), 1.0f, mlp.Rows(row, count));
    AddScaled(mlp.Rows(row, count), scale, here.Rows(row, count));
  });
  ApplyNorm(pool_, weights.mlp_after, here, here);
}

bool LayerForward::RunAttention(Index layer, const LayerWeights& weights, const LayerChunk& chunk,
                                MatrixView x, MutableMatrixView attended, const LayerHooks& hooks) {
  const Index rows = chunk.rows, first = chunk.first_row;
  if (hooks.from == LayerPoint::kAttended) {
    CopyRows(hooks.values.Rows(first, rows), attended);
    return true;
  }
  const MutableMatrixView mixed = Room(mixed_, rows, options_.heads * options_.head_dim);
  if (hooks.from == LayerPoint::kMixed) {
    CopyRows(hooks.values.Rows(first, rows), mixed);
  } else {
    const MutableMatrixView normed = Room(normed_, rows, options_.hidden_size);
    ApplyNorm(pool_, weights.attn_in, x, normed);
    if (hooks.attention_input) hooks.attention_input(first, normed);
    if (hooks.until == LayerHooks::Until::kAttentionInput) return false;
    Attend(layer, weights, chunk, normed, hooks);
  }
  if (hooks.output_input) hooks.output_input(first, mixed);
  if (hooks.until == LayerHooks::Until::kOutputInput) return false;
  Apply(weights, LinearMap::kOutput, mixed, attended);
  ApplyNorm(pool_, weights.attn_out, attended, attended);
  if (hooks.attention_output) hooks.attention_output(first, attended);
  return true;
}

void LayerForward::Apply(const LayerWeights& weights, LinearMap which, MatrixView input,
                         MutableMatrixView out) {
  const LayerWeights::Map& map = weights.of(which);
  if (compute_ == Compute::kFloat32) return ApplyMap(pool_, map, input, out);
  ConvertToBf16(pool_, input, half_input_);
  ShardedBf16Gemm(
      pool_, half_input_, half_[static_cast<size_t>(which)], out,
      [&map](Index, Index col, MutableMatrixView tile) { AddRow(map.bias, col, tile); });
}

void LayerForward::Attend(Index layer, const LayerWeights& weights, const LayerChunk& chunk,
                          MatrixView input, const LayerHooks& hooks) {
  const auto project = [&](LinearMap which, Matrix& out) {
    Apply(weights, which, input, Room(out, chunk.rows, weights.of(which).weight.rows()));
  };
  project(LinearMap::kQuery, q_);
  project(LinearMap::kKey, k_);
  project(LinearMap::kValue, v_);
  Position(weights, chunk);
  if (hooks.queries_and_keys) {
    hooks.queries_and_keys(chunk.first_row, MatrixView(q_).Rows(0, chunk.rows),
                           MatrixView(k_).Rows(0, chunk.rows));
  }
  Mix(layer, chunk);
}

// Clip, norm and rotary embedding.
void LayerForward::Position(const LayerWeights& weights, const LayerChunk& chunk) {
  if (options_.clip_qkv > 0) {
    const auto bound = static_cast<float>(options_.clip_qkv);
    for (Matrix* const m : {&q_, &k_, &v_}) Clip(bound, MutableMatrixView(*m).Rows(0, chunk.rows));
  }
  const MutableMatrixView q = MutableMatrixView(q_).Rows(0, chunk.rows);
  const MutableMatrixView k = MutableMatrixView(k_).Rows(0, chunk.rows);
  ApplyNorm(pool_, weights.q_norm, q, q);
  ApplyNorm(pool_, weights.k_norm, k, k);
  if (chunk.cache != nullptr) {
    for (const MutableMatrixView& heads : {q, k}) chunk.cache->Turn(pool_, heads);
    return;
  }
  if (!has_rope_) return;
  for (const MutableMatrixView& heads : {q, k}) {
    RotateSequences(pool_, rope_, options_.head_dim, chunk.lengths, 1.0f, heads);
  }
}

void LayerForward::Mix(Index layer, const LayerChunk& chunk) {
  const auto rows = [&chunk](const Matrix& m) { return MatrixView(m).Rows(0, chunk.rows); };
  const MutableMatrixView mixed = Room(mixed_, chunk.rows, options_.heads * options_.head_dim);
  if (chunk.cache != nullptr) {
    chunk.cache->Mix(pool_, rows(q_), rows(k_), rows(v_), mixed);
    return;
  }
  const AttentionShards shards(options_, layer, chunk.lengths);
  MixValues(pool_, shards, rows(q_), rows(k_), rows(v_), mixed, scratch_);
}

Matrix LayerForward::Attention(Index layer, MatrixView q, MatrixView k, Index head) const {
  const Index tokens = q.rows();
  const AttentionShards shards(options_, layer, absl::MakeConstSpan(&tokens, 1));
  const AttentionShards::Shard shard = shards.at(head / (options_.heads / options_.kv_heads));
  std::vector<float> room(static_cast<size_t>(shards.key_floats()));
  std::vector<float> scratch(static_cast<size_t>(shards.softmax_floats()));
  const KeyPanels keys = shards.Pack(shard, k, room.data());
  Matrix out(tokens, tokens);
  for (size_t b = 0; b < shard.layout->blocks().size(); ++b) {
    const AttentionBlock& block = shard.layout->blocks()[b];
    CopyRows(shards.Softmax(shard, static_cast<Index>(b), head, q, keys, scratch.data()),
             MutableMatrixView(out).Block(block.row, block.key, block.rows, block.keys));
  }
  return out;
}

void LayerForward::RunMlp(const LayerWeights& weights, Index first_row, MatrixView input,
                          MutableMatrixView out, const LayerHooks& hooks) {
  if (hooks.mlp_input) hooks.mlp_input(first_row, input);
  if (hooks.until == LayerHooks::Until::kMlpInput) return;
  const bool gated = weights.of(LinearMap::kGate).weight.size() > 0;
  for (Index first = 0; first < input.rows(); first += kMlpRows) {
    const Index rows = std::min(kMlpRows, input.rows() - first);
    const MutableMatrixView up = Room(up_, rows, options_.ffn);
    const MatrixView here = input.Rows(first, rows);
    Apply(weights, LinearMap::kUp, here, up);
    MutableMatrixView inner = up;
    if (gated) {
      inner = Room(gate_, rows, options_.ffn);
      Apply(weights, LinearMap::kGate, here, inner);
    }
    ForRows(pool_, rows, [&](Index row, Index count) {
      if (gated) {
        ActivateGate(options_.activation, inner.Rows(row, count), up.Rows(row, count));
      } else {
        Activate(options_.activation, inner.Rows(row, count));
      }
    });
    if (hooks.down_input) hooks.down_input(first_row + first, inner);
    if (hooks.until == LayerHooks::Until::kDownInput) continue;
    Apply(weights, LinearMap::kDown, inner, out.Rows(first, rows));
  }
}

}  // namespace attnprune
