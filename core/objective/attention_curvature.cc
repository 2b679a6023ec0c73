#include "core/objective/attention_curvature.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/kernels/alibi.h"
#include "core/kernels/attention.h"
#include "core/objective/chunks.h"
#include "core/objective/passes.h"

namespace attnprune {
namespace {

constexpr Index kTokensPerShard = 32;

// Calls shard(first, count, index) for runs of the tokens 0, 1, ... on the pool's threads.
void ForTokenRuns(ThreadPool& pool, Index tokens,
                  absl::FunctionRef<void(Index first, Index count, Index shard)> shard) {
  pool.ParallelFor((tokens + kTokensPerShard - 1) / kTokensPerShard, [&](Index i) {
    ScopedFlushDenormals flush;
    const Index first = i * kTokensPerShard;
    shard(first, std::min(kTokensPerShard, tokens - first), i);
  });
}

std::vector<HeadCurvature> Zeros(Index heads, Index inputs, Index outputs) {
  return std::vector<HeadCurvature>(static_cast<size_t>(heads),
                                    {GramMatrix(inputs), GramMatrix(outputs)});
}

MatrixView HeadOf(const Matrix& rows, Index tokens, Index head, Index dim) {
  return MatrixView(rows).Block(0, head * dim, tokens, dim);
}

}  // namespace

LayerCurvature::LayerCurvature(const ProjectionWeights& layer)
    : queries(Zeros(layer.heads, layer.w_q.cols(), layer.head_dim())),
      keys(Zeros(layer.kv_heads, layer.w_q.cols(), layer.head_dim())) {}

AttentionCurvature::AttentionCurvature(const ProjectionWeights& layer, const AttentionMask& mask,
                                       float scale, const Batches& batches, ThreadPool& pool)
    : layer_(layer),
      mask_(mask),
      batches_(batches),
      pool_(pool),
      alibi_(AlibiBias(layer.alibi, layer.heads, batches.longest(), scale)),
      projection_(layer, batches, pool),
      moments_(batches.longest(), scale, static_cast<float>(layer.softcap)),
      q_(batches.longest(), layer.w_q.rows()),
      k_(batches.longest(), layer.w_k.rows()),
      q_traces_(layer.heads, batches.longest()),
      k_traces_(layer.kv_heads, batches.longest()),
      scaled_(batches.longest(), layer.w_q.cols()) {
  if (!layer.has_norm_or_clip()) return;
  clipped_q_ = Matrix(q_.rows(), q_.cols());
  clipped_k_ = Matrix(k_.rows(), k_.cols());
}

void AttentionCurvature::Add(MatrixView w_q, MatrixView w_k, LayerCurvature& sum) {
  CountPasses(batches_.count());
  const QkProjection::Pair clipped = {clipped_q_, clipped_k_};
  for (Index j = 0; j < batches_.count(); ++j) {
    const Chunk chunk = {.first_batch = j,
                         .batches = 1,
                         .first_token = batches_.begin(j),
                         .tokens = batches_.length(j)};
    projection_.Forward(chunk, w_q, w_k, {q_, k_}, &clipped);
    AddBatch(j, sum);
  }
}

void AttentionCurvature::AddBatch(Index batch, LayerCurvature& sum) {
  const Index tokens = batches_.length(batch), dim = layer_.head_dim();
  const Index group = layer_.heads / layer_.kv_heads;
  std::fill(q_traces_.flat().begin(), q_traces_.flat().end(), 0.0f);
  std::fill(k_traces_.flat().begin(), k_traces_.flat().end(), 0.0f);
  for (Index head = 0; head < layer_.heads; ++head) {
    const Index kv_head = head / group;
    moments_.Begin(HeadOf(q_, tokens, head, dim), HeadOf(k_, tokens, kv_head, dim),
                   alibi_.empty() ? nullptr : alibi_.row(head), mask_);
    ForTokenRuns(pool_, tokens,
                 [&](Index first, Index count, Index) { moments_.FillRows(first, count); });
    AddMoments(Of::kQueries, batch, head, sum.queries[static_cast<size_t>(head)].outputs,
               q_traces_.row(head));
    if (sum.keys.empty()) continue;
    AddMoments(Of::kKeys, batch, kv_head, sum.keys[static_cast<size_t>(kv_head)].outputs,
               k_traces_.row(kv_head));
  }
  const MatrixView x = batches_.batch(batch);
  for (size_t h = 0; h < sum.queries.size(); ++h) {
    AddInputs(x, q_traces_.row(static_cast<Index>(h)), sum.queries[h].inputs);
  }
  for (size_t h = 0; h < sum.keys.size(); ++h) {
    AddInputs(x, k_traces_.row(static_cast<Index>(h)), sum.keys[h].inputs);
  }
}

void AttentionCurvature::AddMoments(Of of, Index batch, Index head, GramMatrix& outputs,
                                    float* traces) {
  const Index tokens = batches_.length(batch), dim = outputs.size();
  const Matrix& clipped = of == Of::kQueries ? clipped_q_ : clipped_k_;
  std::vector<GramMatrix> sums(
      static_cast<size_t>((tokens + kTokensPerShard - 1) / kTokensPerShard), GramMatrix(dim));
  ForTokenRuns(pool_, tokens, [&](Index first, Index count, Index shard) {
    Matrix moment(dim, dim);
    GramMatrix& sum = sums[static_cast<size_t>(shard)];
    for (Index t = first; t < first + count; ++t) {
      if (of == Of::kQueries) {
        moments_.OfQuery(t, moment);
      } else {
        moments_.OfKey(t, moment);
      }
      projection_.PullBack(of, batches_.begin(batch) + t, head,
                           clipped.empty() ? nullptr : clipped.row(t), moment);
      for (Index a = 0; a < dim; ++a) {
        for (Index b = 0; b < dim; ++b) sum(a, b) += static_cast<double>(moment(a, b));
        traces[t] += moment(a, a);
      }
    }
  });
  for (const GramMatrix& sum : sums) {
    for (Index a = 0; a < dim; ++a) {
      for (Index b = 0; b < dim; ++b) outputs(a, b) += sum(a, b);
    }
  }
}

void AttentionCurvature::AddInputs(MatrixView x, const float* traces, GramMatrix& inputs) {
  ForTokenRuns(pool_, x.rows(), [&](Index first, Index count, Index) {
    for (Index t = first; t < first + count; ++t) {
      const float by = std::sqrt(std::max(traces[t], 0.0f));
      for (Index j = 0; j < x.cols(); ++j) scaled_(t, j) = by * x(t, j);
    }
  });
  AddGram(MatrixView(scaled_).Rows(0, x.rows()), pool_, inputs);
}

}  // namespace attnprune
