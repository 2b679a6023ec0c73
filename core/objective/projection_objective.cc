#include "core/objective/projection_objective.h"

#include <algorithm>
#include <numeric>

#include "core/kernels/blas.h"
#include "core/objective/sharded_gemm.h"

namespace attnprune {
namespace {

constexpr Index kTokensPerShard = 256;

RopeTable TableFor(const ProjectionWeights& layer, Index positions) {
  if (!layer.rope.has_value()) return {};
  return MakeRopeTable(layer.rope->theta, layer.head_dim(), positions,
                       layer.rope->layout == RopeLayout::kInterleaved);
}

void SetZero(MutableMatrixView m) {
  for (Index i = 0; i < m.rows(); ++i) std::fill_n(m.row(i), m.cols(), 0.0f);
}

void AddBias(const std::vector<float>& bias, float* row) {
  for (size_t i = 0; i < bias.size(); ++i) row[i] += bias[i];
}

}  // namespace

ProjectionObjective::ProjectionObjective(const Problem& problem, const Batches& batches,
                                         ThreadPool& pool)
    : layer_(problem.projections()),
      batches_(batches),
      pool_(pool),
      scale_(problem.effective_scale()),
      rope_(TableFor(layer_, batches.longest())),
      dense_(problem.attention, batches, layer_.heads),
      q_(batches.total_tokens(), layer_.w_q.rows()),
      k_(batches.total_tokens(), layer_.w_k.rows()),
      d_q_(batches.total_tokens(), layer_.w_q.rows()),
      d_k_(batches.total_tokens(), layer_.w_k.rows()),
      partials_(static_cast<size_t>(batches.count() * layer_.heads)) {
  for (Index j = 0; j < batches.count(); ++j) {
    for (Index t = 0; t < batches.length(j); ++t) positions_.push_back(t);
  }
  Project(layer_.w_q, layer_.w_k);
  ForEachHead([&](const Head& h) {
    return dense_.norm(h.batch, h.head) = DenseAttention(dense_.layout(h.batch), h.q, h.k, scale_,
                                                         dense_.packed(h.batch, h.head));
  });
}

void ProjectionObjective::RotateRows(Index first, Index count, float sign, Matrix& q,
                                     Matrix& k) const {
  if (rope_.empty()) return;
  for (Index t = first; t < first + count; ++t) {
    const Index position = positions_[static_cast<size_t>(t)];
    RotateToken(rope_, position, layer_.heads, sign, q.row(t));
    RotateToken(rope_, position, layer_.kv_heads, sign, k.row(t));
  }
}

void ProjectionObjective::Project(MatrixView w_q, MatrixView w_k) {
  ForRowShards(pool_, batches_.total_tokens(), kTokensPerShard, [&](Index first, Index count) {
    ScopedFlushDenormals flush;
    const MatrixView x = batches_.all().Rows(first, count);
    Gemm(Trans::kNo, Trans::kYes, 1.0f, x, w_q, 0.0f, MutableMatrixView(q_).Rows(first, count));
    Gemm(Trans::kNo, Trans::kYes, 1.0f, x, w_k, 0.0f, MutableMatrixView(k_).Rows(first, count));
    for (Index t = first; t < first + count; ++t) {
      AddBias(layer_.b_q, q_.row(t));
      AddBias(layer_.b_k, k_.row(t));
    }
    RotateRows(first, count, 1.0f, q_, k_);
  });
}

void ProjectionObjective::UnrotateGradients() {
  ForRowShards(pool_, batches_.total_tokens(), kTokensPerShard, [&](Index first, Index count) {
    ScopedFlushDenormals flush;
    RotateRows(first, count, -1.0f, d_q_, d_k_);
  });
}

void ProjectionObjective::ForEachHead(absl::FunctionRef<double(const Head&)> value) {
  const Index group = layer_.heads / layer_.kv_heads, dim = layer_.head_dim();
  pool_.ParallelFor(batches_.count() * layer_.kv_heads, [&](Index shard) {
    ScopedFlushDenormals flush;
    const Index batch = shard / layer_.kv_heads, kv_head = shard % layer_.kv_heads;
    const Index first = batches_.begin(batch), tokens = batches_.length(batch);
    const MatrixView k = MatrixView(k_).Block(first, kv_head * dim, tokens, dim);
    for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const MatrixView q = MatrixView(q_).Block(first, head * dim, tokens, dim);
      partials_[static_cast<size_t>(batch * layer_.heads + head)] =
          value({batch, head, kv_head, q, k});
    }
  });
}

double ProjectionObjective::LossAndGradient(absl::Span<const MatrixView> weights,
                                            absl::Span<Matrix> gradients) {
  const Index dim = layer_.head_dim(), group = layer_.heads / layer_.kv_heads;
  Project(weights[0], weights[1]);
  ForEachHead([&](const Head& h) {
    const Index first = batches_.begin(h.batch), tokens = batches_.length(h.batch);
    const auto d_q = MutableMatrixView(d_q_).Block(first, h.head * dim, tokens, dim);
    const auto d_k = MutableMatrixView(d_k_).Block(first, h.kv_head * dim, tokens, dim);
    if (h.head % group == 0) SetZero(d_k);  // the heads of a group add to it in order
    return AttentionLossGradient(dense_.layout(h.batch), h.q, h.k, scale_,
                                 dense_.packed(h.batch, h.head), d_q, d_k);
  });
  UnrotateGradients();
  for (size_t i = 0; i < 2; ++i) {
    if (gradients[i].empty()) gradients[i] = Matrix(weights[i].rows(), weights[i].cols());
    ShardedTransposedGemm(pool_, 1.0f, i == 0 ? d_q_ : d_k_, batches_.all(), gradients[i]);
  }
  return std::accumulate(partials_.begin(), partials_.end(), 0.0);
}

AttentionError ProjectionObjective::Error(absl::Span<const MatrixView> weights) {
  Project(weights[0], weights[1]);
  ForEachHead([&](const Head& h) {
    return AttentionDifference(dense_.layout(h.batch), h.q, h.k, scale_,
                               dense_.packed(h.batch, h.head));
  });
  return {SumOverBatches(partials_, layer_.heads), dense_.NormPerHead()};
}

double ProjectionObjective::SmallestLogAttention(absl::Span<const MatrixView> weights) {
  Project(weights[0], weights[1]);
  ForEachHead([&](const Head& h) {
    return attnprune::SmallestLogAttention(dense_.layout(h.batch), h.q, h.k, scale_);
  });
  return *std::min_element(partials_.begin(), partials_.end());
}

}  // namespace attnprune
