// AttentionObjective of a real layer: separate W_Q and W_K, heads, and what families have between
// projection and softmax (Section 7, made exact).
#include <algorithm>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/base/sum.h"
#include "core/kernels/alibi.h"
#include "core/objective/attention_objective.h"
#include "core/objective/chunks.h"
#include "core/objective/dense_attention.h"
#include "core/objective/passes.h"
#include "core/objective/qk_projection.h"
#include "core/objective/sharded_gemm.h"

namespace attnprune {
namespace {

void SetZero(MutableMatrixView m) {
  for (Index i = 0; i < m.rows(); ++i) std::fill_n(m.row(i), m.cols(), 0.0f);
}

// Q and K of all tokens (QkProjection); the attention kernel for each batch and head; dQ and dK the
// way back; dW = dQ' X. The heads of a group share K, so one shard is a batch and a kv head.
class ProjectionObjective final : public AttentionObjective {
 public:
  ProjectionObjective(const Problem& problem, const Batches& batches, ThreadPool& pool,
                      const ObjectiveOptions& options);

  double LossAndGradient(absl::Span<const MatrixView> weights,
                         absl::Span<Matrix> gradients) override;
  double dense_norm_squared() const override { return dense_.TotalNorm(); }

 private:
  AttentionError DoError(absl::Span<const MatrixView> weights,
                         const ErrorOptions& options) override;
  void FillDense(const ShareDone& share_done) override;

  // One head of one batch, ready for the kernels.
  struct Work {
    Index batch, head, kv_head;
    Index row;  // the batch's first row in q_, k_, d_q_ and d_k_
    AttentionHead attention;
    DenseRows dense;
    float* scratch;
  };

  // Calls value(work) for each head of each batch, on the pool's threads; the answers go to
  // partials_. The heads of a kv head come one after the other.
  void ForEachHead(const Chunk& chunk, PanelUse use, absl::FunctionRef<double(const Work&)> value);
  void KeepDense(const Chunk& chunk);  // copies q_ and k_ to dense_q_ and dense_k_
  // Before the dense attention of a chunk is used: makes dense_q_ and dense_k_ if they are not
  // kept.
  void PrepareDense(const Chunk& chunk);
  MatrixView HeadOfRows(const Matrix& rows, Index first, Index tokens, Index head) const;

  const ProjectionWeights& layer_;
  const Batches& batches_;
  ThreadPool& pool_;
  const float scale_;
  const Matrix alibi_;  // added to the logits of each key, heads x keys; empty for none
  QkProjection projection_;
  const ObjectiveOptions options_;  // with a workspace
  DenseAttentionStore dense_;
  const std::vector<Chunk> chunks_;
  // Tokens of a chunk x (heads * head_dim), x (kv_heads * head_dim).
  Matrix &q_, &k_, &d_q_, &d_k_, &clipped_q_, &clipped_k_;
  Matrix &dense_q_, &dense_k_;  // the store's, or a chunk's; empty where f is kept
  const Index panel_floats_;    // of a kv head's keys
  ShardedTransposedGemm transposed_gemm_;
  std::vector<double> partials_, smallest_;  // batches x heads
};

ProjectionObjective::ProjectionObjective(const Problem& problem, const Batches& batches,
                                         ThreadPool& pool, const ObjectiveOptions& options)
    : layer_(problem.projections()),
      batches_(batches),
      pool_(pool),
      scale_(problem.effective_scale()),
      alibi_(AlibiBias(layer_.alibi, layer_.heads, batches.longest(), scale_)),
      projection_(layer_, batches, pool),
      options_(options),
      dense_(problem.attention, batches, problem.heads(), options.dense),
      chunks_(CutIntoChunks(batches, layer_.w_q.rows(), options.chunk_floats)),
      q_(options_.workspace->queries),
      k_(options_.workspace->keys),
      d_q_(options_.workspace->d_queries),
      d_k_(options_.workspace->d_keys),
      clipped_q_(options_.workspace->clipped_queries),
      clipped_k_(options_.workspace->clipped_keys),
      dense_q_(dense_.recomputes_projections() ? options_.workspace->dense_queries
                                               : dense_.queries),
      dense_k_(dense_.recomputes_projections() ? options_.workspace->dense_keys : dense_.keys),
      panel_floats_(KeyPanelFloats(batches.longest(), layer_.head_dim(), PanelUse::kGradients)),
      transposed_gemm_(pool),
      partials_(static_cast<size_t>(batches.count() * layer_.heads)),
      smallest_(partials_.size()) {
  const auto grow = [this](Matrix& queries, Matrix& keys) {
    Workspace::Grow(queries, LargestChunk(chunks_), layer_.w_q.rows());
    Workspace::Grow(keys, LargestChunk(chunks_), layer_.w_k.rows());
  };
  grow(q_, k_);
  grow(d_q_, d_k_);
  if (layer_.has_norm_or_clip()) grow(clipped_q_, clipped_k_);
  if (dense_.recomputes_projections()) grow(dense_q_, dense_k_);
  // Keys in panels, dense keys in panels, the kernels' scratch.
  options_.workspace->GrowScratch(pool, 2 * panel_floats_ + dense_.scratch_size(layer_.head_dim()));
}

void ProjectionObjective::FillDense(const ShareDone& share_done) {
  if (dense_.keeps_projections()) {
    dense_.queries = Matrix(batches_.total_tokens(), layer_.w_q.rows());
    dense_.keys = Matrix(batches_.total_tokens(), layer_.w_k.rows());
  }
  for (const Chunk& chunk : chunks_) {
    projection_.Forward(chunk, layer_.w_q, layer_.w_k, {q_, k_}, nullptr);
    if (dense_.keeps_projections()) KeepDense(chunk);
    ForEachHead(chunk, PanelUse::kLogits, [&](const Work& work) {
      double& norm = dense_.norm(work.batch, work.head);
      norm = dense_.Fill(work.batch, work.head, work.attention, work.scratch);
      return norm;
    });
    share_done(ShareAfter(chunk, batches_));
  }
}

void ProjectionObjective::KeepDense(const Chunk& chunk) {
  std::copy_n(q_.data(), chunk.tokens * q_.cols(), dense_q_.row(chunk.first_token));
  std::copy_n(k_.data(), chunk.tokens * k_.cols(), dense_k_.row(chunk.first_token));
}

void ProjectionObjective::PrepareDense(const Chunk& chunk) {
  if (dense_.recomputes_projections()) {
    projection_.Forward(chunk, layer_.w_q, layer_.w_k, {dense_q_, dense_k_}, nullptr);
  }
}

MatrixView ProjectionObjective::HeadOfRows(const Matrix& rows, Index first, Index tokens,
                                           Index head) const {
  const Index dim = layer_.head_dim();
  return MatrixView(rows).Block(first, head * dim, tokens, dim);
}

void ProjectionObjective::ForEachHead(const Chunk& chunk, PanelUse use,
                                      absl::FunctionRef<double(const Work&)> value) {
  const Index group = layer_.heads / layer_.kv_heads;
  pool_.ParallelFor(chunk.batches * layer_.kv_heads, [&](Index shard, int worker) {
    ScopedFlushDenormals flush;
    const Index batch = chunk.first_batch + shard / layer_.kv_heads;
    const Index kv_head = shard % layer_.kv_heads;
    const Index first = batches_.begin(batch), tokens = batches_.length(batch);
    const Index row = first - chunk.first_token;
    const Index dense_row = dense_.recomputes_projections() ? row : first;
    float* scratch = options_.workspace->scratch[static_cast<size_t>(worker)].data();
    const KeyPanels keys = PackKeys(HeadOfRows(k_, row, tokens, kv_head), use, scratch);
    KeyPanels dense_keys;
    if (!dense_.keeps_attention()) {
      dense_keys = PackKeys(HeadOfRows(dense_k_, dense_row, tokens, kv_head), PanelUse::kLogits,
                            scratch + panel_floats_);
    }
    for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const AttentionLayout& layout = dense_.layout(batch);
      Work work{.batch = batch,
                .head = head,
                .kv_head = kv_head,
                .row = row,
                .attention = HeadOf(layout, HeadOfRows(q_, row, tokens, head), keys, scale_),
                .dense = dense_.rows(batch, head),
                .scratch = scratch + 2 * panel_floats_};
      if (!alibi_.empty()) work.attention.key_bias = alibi_.row(head);
      work.attention.softcap = static_cast<float>(layer_.softcap);
      if (!dense_.keeps_attention()) {
        const MatrixView q = HeadOfRows(dense_q_, dense_row, tokens, head);
        work.dense.a = q.data();
        work.dense.a_stride = q.stride();
        work.dense.transposed = dense_keys.transposed;
      }
      partials_[static_cast<size_t>(batch * layer_.heads + head)] = value(work);
    }
  });
}

double ProjectionObjective::LossAndGradient(absl::Span<const MatrixView> weights,
                                            absl::Span<Matrix> gradients) {
  CountPasses(batches_.count());
  const Index dim = layer_.head_dim(), group = layer_.heads / layer_.kv_heads;
  for (size_t i = 0; i < 2; ++i) {
    if (gradients[i].empty()) gradients[i] = Matrix(weights[i].rows(), weights[i].cols());
  }
  const QkProjection::Pair clipped = {clipped_q_, clipped_k_};
  for (const Chunk& chunk : chunks_) {
    PrepareDense(chunk);
    projection_.Forward(chunk, weights[0], weights[1], {q_, k_}, &clipped);
    ForEachHead(chunk, PanelUse::kGradients, [&](const Work& work) {
      const auto d_q = MutableMatrixView(d_q_).Block(work.row, work.head * dim,
                                                     batches_.length(work.batch), dim);
      const auto d_k = MutableMatrixView(d_k_).Block(work.row, work.kv_head * dim,
                                                     batches_.length(work.batch), dim);
      if (work.head % group == 0) SetZero(d_k);  // the heads of a group add to it in order
      const double loss = AttentionKernelsOfThisCpu().loss_gradient(
          work.attention, work.dense, work.scratch, d_q.data(), d_q.stride(), d_k.data(),
          d_k.stride());
      projection_.TurnBack(work.batch, d_q);
      if (work.head % group == group - 1) projection_.TurnBack(work.batch, d_k);
      return loss;
    });
    projection_.Backward(chunk, clipped, {d_q_, d_k_});
    const MatrixView x = batches_.all().Rows(chunk.first_token, chunk.tokens);
    const Into into = chunk.first_batch == 0 ? Into::kReplace : Into::kAdd;
    for (size_t i = 0; i < 2; ++i) {
      const MatrixView d = MatrixView(i == 0 ? d_q_ : d_k_).Rows(0, chunk.tokens);
      transposed_gemm_(d, x, into, gradients[i]);
    }
  }
  return Sum(partials_);
}

AttentionError ProjectionObjective::DoError(absl::Span<const MatrixView> weights,
                                            const ErrorOptions& options) {
  for (const Chunk& chunk : chunks_) {
    PrepareDense(chunk);
    projection_.Forward(chunk, weights[0], weights[1], {q_, k_}, nullptr);
    ForEachHead(chunk, PanelUse::kLogits, [&](const Work& work) {
      double& smallest = smallest_[static_cast<size_t>(work.batch * layer_.heads + work.head)];
      smallest = 0;
      return AttentionKernelsOfThisCpu().difference(work.attention, work.dense, work.scratch,
                                                    options.smallest ? &smallest : nullptr);
    });
    options.share_done(ShareAfter(chunk, batches_));
  }
  return {SumOverBatches(partials_, layer_.heads), dense_.NormPerHead(),
          *std::min_element(smallest_.begin(), smallest_.end())};
}

}  // namespace

std::unique_ptr<AttentionObjective> AttentionObjective::OfProjections(
    const Problem& problem, const Batches& batches, ThreadPool& pool,
    const ObjectiveOptions& options) {
  return std::make_unique<ProjectionObjective>(problem, batches, pool, options);
}

}  // namespace attnprune
