#include "core/model/layer_forward.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "core/kernels/activation.h"
#include "core/kernels/alibi.h"
#include "core/model/bf16_products.h"
#include "core/objective/sharded_gemm.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

constexpr Index kShardRows = 64;  // of element-wise work

// Calls work(first, rows) for runs of rows, on the pool's threads.
template <typename Work>
void ForRows(ThreadPool& pool, Index rows, Work work) {
  pool.ParallelFor((rows + kShardRows - 1) / kShardRows, [&](Index shard) {
    ScopedFlushDenormals flush;
    const Index first = shard * kShardRows;
    work(first, std::min(kShardRows, rows - first));
  });
}

// The first rows of a matrix that has room for them, made anew where it has not.
MutableMatrixView Room(Matrix& matrix, Index rows, Index cols) {
  if (matrix.rows() < rows || matrix.cols() != cols) matrix = Matrix(rows, cols);
  return MutableMatrixView(matrix).Rows(0, rows);
}

void AddRow(const std::vector<float>& row, Index first_col, MutableMatrixView to) {
  if (row.empty()) return;
  const float* const add = row.data() + first_col;
  for (Index i = 0; i < to.rows(); ++i) {
    for (Index j = 0; j < to.cols(); ++j) to(i, j) += add[j];
  }
}

void AddScaled(MatrixView from, float factor, MutableMatrixView to) {
  for (Index i = 0; i < to.rows(); ++i) {
    for (Index j = 0; j < to.cols(); ++j) to(i, j) += factor * from(i, j);
  }
}

void Clip(float bound, MutableMatrixView x) {
  for (Index i = 0; i < x.rows(); ++i) {
    for (Index j = 0; j < x.cols(); ++j) x(i, j) = std::clamp(x(i, j), -bound, bound);
  }
}

std::vector<KeyRange> RangesOf(const AttentionMask& mask, Index tokens) {
  std::vector<KeyRange> ranges;
  for (Index i = 0; i < tokens; ++i) {
    const AttentionMask::Range keys = mask.Keys(i, tokens);
    ranges.push_back({keys.begin, keys.end});
  }
  return ranges;
}

Index Longest(absl::Span<const Index> lengths) {
  return *std::max_element(lengths.begin(), lengths.end());
}

MatrixView HeadOfRows(const Matrix& rows, Index first, Index tokens, Index head, Index dim) {
  return MatrixView(rows).Block(first, head * dim, tokens, dim);
}

}  // namespace

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

void LayerForward::RunChunk(Index layer, const LayerWeights& weights, const Chunk& chunk,
                            MutableMatrixView x, const LayerHooks& hooks) {
  const Index d = options_.hidden_size, rows = chunk.rows, first = chunk.first_row;
  const auto scale = static_cast<float>(options_.residual_scale);
  const MutableMatrixView here = x.Rows(first, rows);
  const MutableMatrixView normed = Room(normed_, rows, d);
  ApplyNorm(weights.attn_in, here, normed);
  if (hooks.attention_input) hooks.attention_input(first, normed);
  if (hooks.until == LayerHooks::Until::kAttentionInput) return;
  Attend(layer, weights, chunk, normed, hooks);
  if (hooks.output_input) hooks.output_input(first, MatrixView(mixed_).Rows(0, rows));
  if (hooks.until == LayerHooks::Until::kOutputInput) return;
  const MutableMatrixView attended = Room(attention_out_, rows, d);
  Apply(weights, LinearMap::kOutput, MatrixView(mixed_).Rows(0, rows), attended);
  ApplyNorm(weights.attn_out, attended, attended);
  const MutableMatrixView mlp = Room(mlp_out_, rows, d);
  if (options_.parallel) {
    if (weights.mlp_in.has_value()) ApplyNorm(weights.mlp_in, here, normed);
  } else {
    ForRows(pool_, rows, [&](Index row, Index count) {
      AddScaled(attended.Rows(row, count), scale, here.Rows(row, count));
    });
    ApplyNorm(weights.attn_after, here, here);
    ApplyNorm(weights.mlp_in, here, normed);
  }
  RunMlp(weights, first, normed, mlp, hooks);
  if (hooks.until != LayerHooks::Until::kEnd) return;
  ApplyNorm(weights.mlp_out, mlp, mlp);
  ForRows(pool_, rows, [&](Index row, Index count) {
    if (options_.parallel) AddScaled(attended.Rows(row, count), 1.0f, mlp.Rows(row, count));
    AddScaled(mlp.Rows(row, count), scale, here.Rows(row, count));
  });
  ApplyNorm(weights.mlp_after, here, here);
}

void LayerForward::Apply(const LayerWeights& weights, LinearMap which, MatrixView input,
                         MutableMatrixView out) {
  const LayerWeights::Map& map = weights.of(which);
  const auto add_bias = [&map](Index, Index col, MutableMatrixView tile) {
    AddRow(map.bias, col, tile);
  };
  if (compute_ == Compute::kFloat32) {
    return ShardedGemm(pool_, input, Trans::kYes, map.weight, out, 1, add_bias);
  }
  ConvertToBf16(pool_, input, half_input_);
  ShardedBf16Gemm(pool_, half_input_, half_[static_cast<size_t>(which)], out, add_bias);
}

void LayerForward::ApplyNorm(const OptionalNorm& norm, MatrixView x, MutableMatrixView y) {
  if (!norm.has_value() && x.data() == y.data()) return;
  ForRows(pool_, x.rows(), [&](Index row, Index count) {
    if (norm.has_value()) {
      Normalize(norm->view(), x.Rows(row, count), y.Rows(row, count));
    } else {
      CopyRows(x.Rows(row, count), y.Rows(row, count));
    }
  });
}

void LayerForward::Attend(Index layer, const LayerWeights& weights, const Chunk& chunk,
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
void LayerForward::Position(const LayerWeights& weights, const Chunk& chunk) {
  if (options_.clip_qkv > 0) {
    const auto bound = static_cast<float>(options_.clip_qkv);
    for (Matrix* const m : {&q_, &k_, &v_}) Clip(bound, MutableMatrixView(*m).Rows(0, chunk.rows));
  }
  const MutableMatrixView q = MutableMatrixView(q_).Rows(0, chunk.rows);
  const MutableMatrixView k = MutableMatrixView(k_).Rows(0, chunk.rows);
  ApplyNorm(weights.q_norm, q, q);
  ApplyNorm(weights.k_norm, k, k);
  if (!has_rope_) return;
  std::vector<Index> positions(static_cast<size_t>(Longest(chunk.lengths)));
  std::iota(positions.begin(), positions.end(), Index{0});
  Index first = 0;
  for (const Index tokens : chunk.lengths) {
    ForRows(pool_, tokens, [&](Index row, Index count) {
      for (const MutableMatrixView& heads : {q, k}) {
        Rotate(rope_.of(tokens), options_.head_dim, &positions[static_cast<size_t>(row)], 1.0f,
               heads.Rows(first + row, count));
      }
    });
    first += tokens;
  }
}

void LayerForward::Mix(Index layer, const Chunk& chunk) {
  const Index dim = options_.head_dim, group = options_.heads / options_.kv_heads;
  const MutableMatrixView mixed = Room(mixed_, chunk.rows, options_.heads * dim);
  const AttentionMask mask = options_.Mask(layer);
  const Index longest = Longest(chunk.lengths);
  const auto scale = static_cast<float>(options_.attention_scale);
  const Matrix alibi = AlibiBias(options_.alibi, options_.heads, longest, scale);
  // Sequences are mostly of one length.
  std::map<Index, AttentionLayout> layouts;
  std::vector<Index> begins;
  Index rows = 0;
  for (const Index tokens : chunk.lengths) {
    if (!layouts.contains(tokens)) layouts[tokens] = AttentionLayout(RangesOf(mask, tokens));
    begins.push_back(rows);
    rows += tokens;
  }
  const Index panel_floats = KeyPanelFloats(longest, dim, PanelUse::kLogits);
  Index block_floats = 0;
  for (const auto& [tokens, layout] : layouts) {
    block_floats = std::max(block_floats, AttentionScratchSize(layout, dim));
  }
  scratch_.resize(static_cast<size_t>(pool_.threads()));
  pool_.ParallelFor(static_cast<Index>(chunk.lengths.size()) * options_.kv_heads, [&](Index shard,
                                                                                      int worker) {
    ScopedFlushDenormals flush;
    const auto sequence = static_cast<size_t>(shard / options_.kv_heads);
    const Index kv_head = shard % options_.kv_heads;
    const Index first = begins[sequence], tokens = chunk.lengths[sequence];
    std::vector<float>& scratch = scratch_[static_cast<size_t>(worker)];
    scratch.resize(static_cast<size_t>(panel_floats + block_floats));
    const AttentionLayout& layout = layouts.at(tokens);
    const KeyPanels keys =
        PackKeys(HeadOfRows(k_, first, tokens, kv_head, dim), PanelUse::kLogits, scratch.data());
    const MatrixView values = HeadOfRows(v_, first, tokens, kv_head, dim);
    for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const MatrixView queries = HeadOfRows(q_, first, tokens, head, dim);
      for (size_t b = 0; b < layout.blocks().size(); ++b) {
        AttentionHead work =
            HeadOf(layout, static_cast<Index>(b), static_cast<Index>(b) + 1, queries, keys, scale);
        work.softcap = static_cast<float>(options_.softcap);
        work.key_bias = alibi.empty() ? nullptr : alibi.row(head);
        float* const f = scratch.data() + panel_floats;
        AttentionKernelsOfThisCpu().dense(work, f, nullptr, nullptr, nullptr);
        const AttentionBlock& block = layout.blocks()[b];
        Gemm(Trans::kNo, Trans::kNo, 1.0f, MatrixView(f, block.rows, block.keys, block.stride),
             values.Rows(block.key, block.keys), 0.0f,
             mixed.Block(first + block.row, head * dim, block.rows, dim));
      }
    }
  });
}

Matrix LayerForward::Attention(Index layer, MatrixView q, MatrixView k, Index head) const {
  const Index dim = options_.head_dim, tokens = q.rows();
  const AttentionLayout layout(RangesOf(options_.Mask(layer), tokens));
  const auto scale = static_cast<float>(options_.attention_scale);
  const Matrix alibi = AlibiBias(options_.alibi, options_.heads, tokens, scale);
  const Index group = options_.heads / options_.kv_heads;
  std::vector<float> room(static_cast<size_t>(KeyPanelFloats(tokens, dim, PanelUse::kLogits)));
  std::vector<float> scratch(static_cast<size_t>(AttentionScratchSize(layout, dim)));
  const KeyPanels keys = PackKeys(k.Cols(head / group * dim, dim), PanelUse::kLogits, room.data());
  Matrix out(tokens, tokens);
  for (size_t b = 0; b < layout.blocks().size(); ++b) {
    const AttentionBlock& block = layout.blocks()[b];
    AttentionHead work = HeadOf(layout, static_cast<Index>(b), static_cast<Index>(b) + 1,
                                q.Cols(head * dim, dim), keys, scale);
    work.softcap = static_cast<float>(options_.softcap);
    work.key_bias = alibi.empty() ? nullptr : alibi.row(head);
    AttentionKernelsOfThisCpu().dense(work, scratch.data(), nullptr, nullptr, nullptr);
    CopyRows(MatrixView(scratch.data(), block.rows, block.keys, block.stride),
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
