// AttentionObjective of the fused problem: f = softmax(s X W X') (Definition 1.1).
#include <algorithm>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/base/sum.h"
#include "core/objective/attention_objective.h"
#include "core/objective/chunks.h"
#include "core/objective/dense_attention.h"
#include "core/objective/passes.h"
#include "core/objective/sharded_gemm.h"

namespace attnprune {
namespace {

constexpr Index kBlocksPerPart = 8;  // 512 rows: long batches occupy several threads

// dL/dW = s X' p X (Theorem 5.3 without the mask), by Y = X W, the attention kernel with A = Y and
// B = X giving Z = s p X a batch, and one product X' Z over all tokens of a chunk.
class FusedObjective final : public AttentionObjective {
 public:
  FusedObjective(const Problem& problem, const Batches& batches, ThreadPool& pool,
                 const ObjectiveOptions& options);

  double LossAndGradient(absl::Span<const MatrixView> weights,
                         absl::Span<Matrix> gradients) override;
  double dense_norm_squared() const override { return dense_.TotalNorm(); }

 private:
  AttentionError DoError(absl::Span<const MatrixView> weights,
                         const ErrorOptions& options) override;
  void FillDense(const ShareDone& share_done) override;

  // Some row blocks of one batch: what one shard works on.
  struct Part {
    Index batch, first_block, last_block;
  };
  struct ChunkParts {
    Chunk chunk;
    size_t first, count;  // in parts_
  };
  // One part, ready for the kernels.
  struct Work {
    size_t part;  // in parts_
    Index batch;
    Index row;  // the batch's first row in y_ and z_
    AttentionHead head;
    DenseRows dense;
    float* scratch;
  };

  void AddParts(const Chunk& chunk);
  void ComputeProducts(const Chunk& chunk, MatrixView w, MutableMatrixView y);  // y = X w
  // Calls value(work) for each part of a chunk, on the pool's threads; the answers go to partials_.
  void ForEachPart(const ChunkParts& chunk, PanelUse use,
                   absl::FunctionRef<double(const Work&)> value);
  // Before the dense attention of a chunk is used: makes dense_y_ if it is not kept.
  void PrepareDense(const Chunk& chunk);

  const Batches& batches_;
  ThreadPool& pool_;
  const float scale_;
  const ObjectiveOptions options_;  // with a workspace
  DenseAttentionStore dense_;
  std::vector<ChunkParts> chunks_;
  std::vector<Part> parts_;
  const Matrix& dense_w_;
  Matrix &y_, &z_;   // tokens of a chunk x d
  Matrix& dense_y_;  // dense X W: the store's, or a chunk's; empty where f is kept
  Index panel_floats_ = 0;
  ShardedTransposedGemm transposed_gemm_;
  std::vector<double> partials_, smallest_;  // one a part
};

FusedObjective::FusedObjective(const Problem& problem, const Batches& batches, ThreadPool& pool,
                               const ObjectiveOptions& options)
    : batches_(batches),
      pool_(pool),
      scale_(problem.effective_scale()),
      options_(options),
      dense_(problem.attention, batches, problem.heads(), options.dense),
      dense_w_(problem.fused_weights().w),
      y_(options_.workspace->queries),
      z_(options_.workspace->d_queries),
      dense_y_(dense_.recomputes_projections() ? options_.workspace->dense_queries
                                               : dense_.queries),
      panel_floats_(KeyPanelFloats(batches.longest(), batches.features(), PanelUse::kGradients)),
      transposed_gemm_(pool) {
  const std::vector<Chunk> chunks =
      CutIntoChunks(batches, batches.features(), options.chunk_floats);
  for (const Chunk& chunk : chunks) AddParts(chunk);
  partials_.resize(parts_.size());
  smallest_.resize(parts_.size());
  Workspace::Grow(y_, LargestChunk(chunks), batches.features());
  Workspace::Grow(z_, LargestChunk(chunks), batches.features());
  if (dense_.recomputes_projections()) {
    Workspace::Grow(dense_y_, LargestChunk(chunks), batches.features());
  }
  // A batch's keys in panels, then the kernels' scratch.
  options_.workspace->GrowScratch(pool, panel_floats_ + dense_.scratch_size(batches.features()));
}

void FusedObjective::AddParts(const Chunk& chunk) {
  ChunkParts parts{.chunk = chunk, .first = parts_.size(), .count = 0};
  for (Index j = chunk.first_batch; j < chunk.first_batch + chunk.batches; ++j) {
    const auto blocks = static_cast<Index>(dense_.layout(j).blocks().size());
    const Index count = (blocks + kBlocksPerPart - 1) / kBlocksPerPart;
    // When causal, later rows have more keys: heavy and light by turns, so that every thread's
    // share of consecutive parts is as heavy as the next.
    for (Index i = 0; i < count; ++i) {
      const Index part = i % 2 == 0 ? count - 1 - i / 2 : i / 2;
      const Index first = part * kBlocksPerPart;
      parts_.push_back({j, first, std::min(first + kBlocksPerPart, blocks)});
    }
  }
  parts.count = parts_.size() - parts.first;
  chunks_.push_back(parts);
}

void FusedObjective::ComputeProducts(const Chunk& chunk, MatrixView w, MutableMatrixView y) {
  const MatrixView x = batches_.all().Rows(chunk.first_token, chunk.tokens);
  ShardedGemm(pool_, x, Trans::kNo, w, y.Rows(0, chunk.tokens));
}

void FusedObjective::ForEachPart(const ChunkParts& chunk, PanelUse use,
                                 absl::FunctionRef<double(const Work&)> value) {
  pool_.ParallelFor(static_cast<Index>(chunk.count), [&](Index i, int worker) {
    ScopedFlushDenormals flush;
    const size_t index = chunk.first + static_cast<size_t>(i);
    const Part& part = parts_[index];
    const AttentionLayout& layout = dense_.layout(part.batch);
    const Index tokens = layout.tokens();
    float* scratch = options_.workspace->scratch[static_cast<size_t>(worker)].data();
    const KeyPanels keys = PackKeys(batches_.batch(part.batch), use, scratch);
    Work work;
    work.part = index;
    work.batch = part.batch;
    work.row = batches_.begin(part.batch) - chunk.chunk.first_token;
    work.head = HeadOf(layout, part.first_block, part.last_block,
                       MatrixView(y_).Rows(work.row, tokens), keys, scale_);
    work.dense = dense_.rows(part.batch, 0);
    if (!dense_.keeps_attention()) {
      const Index dense_row =
          dense_.recomputes_projections() ? work.row : batches_.begin(part.batch);
      const MatrixView y = MatrixView(dense_y_).Rows(dense_row, tokens);
      work.dense.a = y.data();
      work.dense.a_stride = y.stride();
      work.dense.transposed = keys.transposed;
    }
    work.scratch = scratch + panel_floats_;
    partials_[index] = value(work);
  });
}

void FusedObjective::FillDense(const ShareDone& share_done) {
  if (dense_.keeps_projections()) {
    dense_.queries = Matrix(batches_.total_tokens(), batches_.features());
  }
  for (const ChunkParts& chunk : chunks_) {
    ComputeProducts(chunk.chunk, dense_w_, y_);
    if (dense_.keeps_projections()) {
      const MatrixView y = MatrixView(y_).Rows(0, chunk.chunk.tokens);
      std::copy_n(y.data(), y.size(), dense_.queries.row(chunk.chunk.first_token));
    }
    ForEachPart(chunk, PanelUse::kLogits, [&](const Work& work) {
      return dense_.Fill(work.batch, 0, work.head, work.scratch);
    });
    share_done(ShareAfter(chunk.chunk, batches_));
  }
  for (size_t i = 0; i < parts_.size(); ++i) dense_.norm(parts_[i].batch, 0) += partials_[i];
}

void FusedObjective::PrepareDense(const Chunk& chunk) {
  if (dense_.recomputes_projections()) ComputeProducts(chunk, dense_w_, dense_y_);
}

double FusedObjective::LossAndGradient(absl::Span<const MatrixView> weights,
                                       absl::Span<Matrix> gradients) {
  CountPasses(batches_.count());
  if (gradients[0].empty()) gradients[0] = Matrix(weights[0].rows(), weights[0].cols());
  const Index d = batches_.features();
  for (const ChunkParts& chunk : chunks_) {
    PrepareDense(chunk.chunk);
    ComputeProducts(chunk.chunk, weights[0], y_);
    ForEachPart(chunk, PanelUse::kGradients, [&](const Work& work) {
      return AttentionKernelsOfThisCpu().loss_gradient(work.head, work.dense, work.scratch,
                                                       z_.row(work.row), d, nullptr, 0);
    });
    const Index tokens = chunk.chunk.tokens;
    transposed_gemm_(batches_.all().Rows(chunk.chunk.first_token, tokens),
                     MatrixView(z_).Rows(0, tokens), chunk.first == 0 ? Into::kReplace : Into::kAdd,
                     gradients[0]);
  }
  return Sum(partials_);
}

AttentionError FusedObjective::DoError(absl::Span<const MatrixView> weights,
                                       const ErrorOptions& options) {
  for (const ChunkParts& chunk : chunks_) {
    PrepareDense(chunk.chunk);
    ComputeProducts(chunk.chunk, weights[0], y_);
    ForEachPart(chunk, PanelUse::kLogits, [&](const Work& work) {
      double& smallest = smallest_[work.part];
      smallest = 0;
      return AttentionKernelsOfThisCpu().difference(work.head, work.dense, work.scratch,
                                                    options.smallest ? &smallest : nullptr);
    });
    options.share_done(ShareAfter(chunk.chunk, batches_));
  }
  return {{Sum(partials_)},
          dense_.NormPerHead(),
          *std::min_element(smallest_.begin(), smallest_.end())};
}

}  // namespace

std::unique_ptr<AttentionObjective> AttentionObjective::OfFused(const Problem& problem,
                                                                const Batches& batches,
                                                                ThreadPool& pool,
                                                                const ObjectiveOptions& options) {
  return std::make_unique<FusedObjective>(problem, batches, pool, options);
}

}  // namespace attnprune
