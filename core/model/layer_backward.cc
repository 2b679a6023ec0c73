#include "core/model/layer_backward.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/kernels/activation.h"
#include "core/model/layer_forward.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

bool IsGated(const LayerWeights& weights) { return weights.of(LinearMap::kGate).weight.size() > 0; }

// to = factor from.
void SetScaled(ThreadPool& pool, MatrixView from, float factor, MutableMatrixView to) {
  ForRows(pool, to.rows(), [&](Index first, Index rows) {
    for (Index i = first; i < first + rows; ++i) {
      for (Index j = 0; j < to.cols(); ++j) to(i, j) = factor * from(i, j);
    }
  });
}

// No gradient passes where the bound was reached.
void ClipBackward(ThreadPool& pool, float bound, MatrixView clipped, MutableMatrixView d) {
  ForRows(pool, d.rows(), [&](Index first, Index rows) {
    for (Index i = first; i < first + rows; ++i) {
      for (Index j = 0; j < d.cols(); ++j) {
        if (std::abs(clipped(i, j)) >= bound) d(i, j) = 0;
      }
    }
  });
}

}  // namespace

bool LayerBackward::Run(Index layer, const LayerWeights& weights, absl::Span<const Index> lengths,
                        MatrixView x, MutableMatrixView gradient, const BackwardHooks& hooks) {
  const absl::optional<Rope>& rope = options_.layers[static_cast<size_t>(layer)].rope;
  rope_ = rope.has_value() ? RopeTables(*rope, options_.head_dim, lengths) : RopeTables();
  has_rope_ = rope.has_value();
  if (hooks.pull != nullptr) *hooks.distance = {};
  return ForChunks(lengths, [&](Index first, absl::Span<const Index> together) {
    const Index rows = std::accumulate(together.begin(), together.end(), Index{0});
    const AttentionShards shards(options_, layer, together);
    const Pass pass{
        weights, shards, {first, rows, together}, x.Rows(first, rows), gradient.Rows(first, rows),
        hooks};
    RunChunk(pass);
    return !hooks.goes_on || hooks.goes_on(first + rows);
  });
}

void LayerBackward::RunChunk(const Pass& pass) {
  const LayerWeights& weights = pass.weights;
  const auto scale = static_cast<float>(options_.residual_scale);
  const Values values = Recompute(pass);
  const MutableMatrixView d_mlp_input = RunMlp(pass, values);
  if (!options_.parallel) {
    ApplyNormBackward(pool_, weights.mlp_in, values.middle, d_mlp_input);
    AddScaled(pool_, d_mlp_input, 1.0f, pass.gradient);
    ApplyNormBackward(pool_, weights.attn_after, values.before, pass.gradient);
  }
  const MutableMatrixView d_attended = Room(d_attended_, pass.chunk.rows, options_.hidden_size);
  SetScaled(pool_, pass.gradient, scale, d_attended);
  ApplyNormBackward(pool_, weights.attn_out, values.attended, d_attended);
  const MutableMatrixView d_input = RunAttention(pass, values, d_attended);
  if (options_.parallel && !weights.mlp_in.has_value()) {
    AddScaled(pool_, d_mlp_input, 1.0f, d_input);
  }
  ApplyNormBackward(pool_, weights.attn_in, pass.x, d_input);
  AddScaled(pool_, d_input, 1.0f, pass.gradient);
  if (options_.parallel && weights.mlp_in.has_value()) {
    ApplyNormBackward(pool_, weights.mlp_in, pass.x, d_mlp_input);
    AddScaled(pool_, d_mlp_input, 1.0f, pass.gradient);
  }
}

// The norm of x in `room`, or x itself where there is none.
MatrixView LayerBackward::Normed(const OptionalNorm& norm, MatrixView x, Matrix& room) {
  if (!norm.has_value()) return x;
  const MutableMatrixView out = Room(room, x.rows(), x.cols());
  ApplyNorm(pool_, norm, x, out);
  return out;
}

LayerBackward::Values LayerBackward::Recompute(const Pass& pass) {
  const LayerWeights& weights = pass.weights;
  const Index d = options_.hidden_size, rows = pass.chunk.rows;
  Values values;
  values.input = Normed(weights.attn_in, pass.x, input_);
  values.heads = RecomputeHeads(pass, values);
  if (!options_.parallel || weights.attn_out.has_value() || weights.mlp_after.has_value()) {
    const MutableMatrixView attended = Room(attended_, rows, d);
    ApplyMap(pool_, weights.of(LinearMap::kOutput), values.heads.mixed, attended);
    values.attended = attended;
    const MutableMatrixView before = Room(before_, rows, d);
    ApplyNorm(pool_, weights.attn_out, attended, before);
    SetScaled(pool_, before, static_cast<float>(options_.residual_scale), before);
    AddScaled(pool_, pass.x, 1.0f, before);
    values.before = before;
    values.middle = options_.parallel ? values.before : Normed(weights.attn_after, before, middle_);
  }
  if (!options_.parallel) {
    values.mlp_input = Normed(weights.mlp_in, values.middle, mlp_input_);
  } else {
    values.mlp_input =
        weights.mlp_in.has_value() ? Normed(weights.mlp_in, pass.x, mlp_input_) : values.input;
  }
  return values;
}

AttentionValues LayerBackward::RecomputeHeads(const Pass& pass, Values& values) {
  const LayerWeights& weights = pass.weights;
  const Index rows = pass.chunk.rows;
  const auto project = [&](LinearMap which, Matrix& room) {
    const MutableMatrixView out = Room(room, rows, weights.of(which).weight.rows());
    ApplyMap(pool_, weights.of(which), values.input, out);
    if (options_.clip_qkv > 0) {
      ForRows(pool_, rows, [&](Index first, Index count) {
        Clip(static_cast<float>(options_.clip_qkv), out.Rows(first, count));
      });
    }
    return out;
  };
  const auto position = [&](const OptionalNorm& norm, MutableMatrixView heads, Matrix& room,
                            MatrixView& projected) {
    if (norm.has_value() || options_.clip_qkv > 0) {
      const MutableMatrixView copy = Room(room, rows, heads.cols());
      ApplyNorm(pool_, absl::nullopt, heads, copy);
      projected = copy;
    }
    ApplyNorm(pool_, norm, heads, heads);
    if (has_rope_) {
      RotateSequences(pool_, rope_, options_.head_dim, pass.chunk.lengths, 1.0f, heads);
    }
  };
  const MutableMatrixView q = project(LinearMap::kQuery, q_), k = project(LinearMap::kKey, k_);
  const MutableMatrixView v = project(LinearMap::kValue, v_);
  position(weights.q_norm, q, q_projected_, values.q_projected);
  position(weights.k_norm, k, k_projected_, values.k_projected);
  const MutableMatrixView mixed = Room(mixed_, rows, options_.heads * options_.head_dim);
  MixValues(pool_, pass.shards, q, k, v, mixed, scratch_);
  return {q, k, v, mixed};
}

MutableMatrixView LayerBackward::RunMlp(const Pass& pass, const Values& values) {
  const Index rows = pass.chunk.rows;
  const MutableMatrixView d_input = Room(d_mlp_input_, rows, options_.hidden_size);
  for (Index first = 0; first < rows; first += LayerForward::kMlpRows) {
    RunMlpRows(pass, values, first,
               d_input.Rows(first, std::min(LayerForward::kMlpRows, rows - first)));
  }
  return d_input;
}

void LayerBackward::RunMlpRows(const Pass& pass, const Values& values, Index first,
                               MutableMatrixView d_input) {
  const LayerWeights& weights = pass.weights;
  const Index rows = d_input.rows();
  const bool gated = IsGated(weights);
  const Activation activation = options_.activation;
  const MatrixView input = values.mlp_input.Rows(first, rows);
  const MutableMatrixView up = Room(up_, rows, options_.ffn);
  const MutableMatrixView gate = gated ? Room(gate_, rows, options_.ffn) : up;
  const MutableMatrixView inner = Room(inner_, rows, options_.ffn);
  ApplyMap(pool_, weights.of(LinearMap::kUp), input, up);
  if (gated) ApplyMap(pool_, weights.of(LinearMap::kGate), input, gate);
  ForRows(pool_, rows, [&](Index row, Index count) {
    const MutableMatrixView out = inner.Rows(row, count);
    CopyRows(gate.Rows(row, count), out);
    if (gated) {
      ActivateGate(activation, out, up.Rows(row, count));
    } else {
      Activate(activation, out);
    }
  });
  const MutableMatrixView d_down = IntoMlp(pass, values, first, inner);
  Show(pass, LinearMap::kDown, first, inner, d_down);
  ApplyMapBackward(pool_, weights.of(LinearMap::kDown).weight, d_down, Into::kReplace, inner);
  ForRows(pool_, rows, [&](Index row, Index count) {
    if (gated) {
      ActivateGateBackward(activation, inner.Rows(row, count), gate.Rows(row, count),
                           up.Rows(row, count));
    } else {
      ActivateBackward(activation, inner.Rows(row, count), up.Rows(row, count));
    }
  });
  Show(pass, LinearMap::kUp, first, input, up);
  ApplyMapBackward(pool_, weights.of(LinearMap::kUp).weight, up, Into::kReplace, d_input);
  if (!gated) return;
  Show(pass, LinearMap::kGate, first, input, gate);
  ApplyMapBackward(pool_, weights.of(LinearMap::kGate).weight, gate, Into::kAdd, d_input);
}

MutableMatrixView LayerBackward::IntoMlp(const Pass& pass, const Values& values, Index first,
                                         MatrixView inner) {
  const LayerWeights& weights = pass.weights;
  const Index rows = inner.rows(), d = options_.hidden_size;
  const auto scale = static_cast<float>(options_.residual_scale);
  const MutableMatrixView gradient = pass.gradient.Rows(first, rows);
  MutableMatrixView down;
  if (weights.mlp_out.has_value() || weights.mlp_after.has_value()) {
    down = Room(mlp_out_, rows, d);
    ApplyMap(pool_, weights.of(LinearMap::kDown), inner, down);
  }
  if (weights.mlp_after.has_value()) {
    const MutableMatrixView sum = Room(mlp_sum_, rows, d);
    ApplyNorm(pool_, weights.mlp_out, down, sum);
    SetScaled(pool_, sum, scale, sum);
    AddScaled(pool_, values.middle.Rows(first, rows), 1.0f, sum);
    ApplyNormBackward(pool_, weights.mlp_after, sum, gradient);
  }
  const MutableMatrixView d_down = Room(d_down_, rows, d);
  SetScaled(pool_, gradient, scale, d_down);
  ApplyNormBackward(pool_, weights.mlp_out, down, d_down);
  return d_down;
}

MutableMatrixView LayerBackward::RunAttention(const Pass& pass, const Values& values,
                                              MatrixView d_attended) {
  const LayerWeights& weights = pass.weights;
  const AttentionValues& heads = values.heads;
  const Index rows = pass.chunk.rows;
  Show(pass, LinearMap::kOutput, 0, heads.mixed, d_attended);
  const MutableMatrixView d_mixed = Room(d_mixed_, rows, heads.mixed.cols());
  ApplyMapBackward(pool_, weights.of(LinearMap::kOutput).weight, d_attended, Into::kReplace,
                   d_mixed);
  const AttentionGradients d{Room(d_q_, rows, heads.q.cols()), Room(d_k_, rows, heads.k.cols()),
                             Room(d_v_, rows, heads.v.cols())};
  BackThroughAttention(pass, heads, d_mixed, d);
  ToProjections(pass, values, d);
  const MutableMatrixView d_input = Room(d_input_, rows, options_.hidden_size);
  const auto back = [&](LinearMap map, MatrixView gradient, Into into) {
    Show(pass, map, 0, values.input, gradient);
    ApplyMapBackward(pool_, weights.of(map).weight, gradient, into, d_input);
  };
  back(LinearMap::kQuery, d.q, Into::kReplace);
  back(LinearMap::kKey, d.k, Into::kAdd);
  back(LinearMap::kValue, d.v, Into::kAdd);
  return d_input;
}

void LayerBackward::BackThroughAttention(const Pass& pass, const AttentionValues& heads,
                                         MatrixView d_mixed, const AttentionGradients& d) {
  if (pass.hooks.pull == nullptr) {
    AttentionBackward(pool_, pass.shards, heads, d_mixed, d, scratch_);
    return;
  }
  const AttentionPull& all = *pass.hooks.pull;
  const AttentionPull pull{all.q.Rows(pass.chunk.first_row, pass.chunk.rows),
                           all.k.Rows(pass.chunk.first_row, pass.chunk.rows), all.factor};
  const AttentionDistance distance =
      AttentionBackward(pool_, pass.shards, heads, d_mixed, d, scratch_, &pull);
  pass.hooks.distance->squared += distance.squared;
  pass.hooks.distance->target += distance.target;
}

// Back through rotary embedding, norm and clip.
void LayerBackward::ToProjections(const Pass& pass, const Values& values,
                                  const AttentionGradients& d) {
  const auto bound = static_cast<float>(options_.clip_qkv);
  if (has_rope_) {
    for (const MutableMatrixView& heads : {d.q, d.k}) {
      RotateSequences(pool_, rope_, options_.head_dim, pass.chunk.lengths, -1.0f, heads);
    }
  }
  ApplyNormBackward(pool_, pass.weights.q_norm, values.q_projected, d.q);
  ApplyNormBackward(pool_, pass.weights.k_norm, values.k_projected, d.k);
  if (bound == 0) return;
  ClipBackward(pool_, bound, values.q_projected, d.q);
  ClipBackward(pool_, bound, values.k_projected, d.k);
  ClipBackward(pool_, bound, values.heads.v, d.v);
}

void LayerBackward::Show(const Pass& pass, LinearMap map, Index first, MatrixView input,
                         MatrixView gradient) {
  if (!pass.hooks.map_gradient) return;
  pass.hooks.map_gradient(map, pass.chunk.first_row + first, input, gradient);
}

}  // namespace attnprune
