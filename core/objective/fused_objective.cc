#include "core/objective/fused_objective.h"

#include <algorithm>
#include <numeric>

namespace attnprune {
namespace {

constexpr Index kBlocksPerPart = 8;  // 512 rows: long batches occupy several threads

double Sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

FusedObjective::FusedObjective(const Problem& problem, const Batches& batches, ThreadPool& pool,
                               const ObjectiveOptions& options)
    : batches_(batches),
      pool_(pool),
      scale_(problem.effective_scale()),
      dense_(problem.attention, batches, 1, options.dense),
      dense_w_(problem.fused_weights().w),
      workspace_(OwnIfNull(options.workspace)),
      y_(workspace_->queries),
      z_(workspace_->d_queries),
      dense_y_(dense_.recomputes_projections() ? workspace_->dense_queries : all_dense_y_),
      panel_floats_(KeyPanelFloats(batches.longest(), batches.features(), PanelUse::kGradients)),
      transposed_gemm_(pool) {
  const std::vector<Chunk> chunks =
      CutIntoChunks(batches, batches.features(), options.chunk_floats);
  for (const Chunk& chunk : chunks) AddParts(chunk);
  partials_.resize(parts_.size());
  Workspace::Grow(y_, LargestChunk(chunks), batches.features());
  Workspace::Grow(z_, LargestChunk(chunks), batches.features());
  // A batch's keys in panels, then the kernels' scratch.
  workspace_->GrowScratch(pool, panel_floats_ + dense_.scratch_size(batches.features()));
  FillDense();
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
    const Index tokens = layout.tokens(), row = batches_.begin(part.batch);
    float* scratch = workspace_->scratch[static_cast<size_t>(worker)].data();
    const KeyPanels keys = PackKeys(batches_.batch(part.batch), use, scratch);
    Work work;
    work.batch = part.batch;
    work.row = row - chunk.chunk.first_token;
    work.head = HeadOf(layout, part.first_block, part.last_block,
                       MatrixView(y_).Rows(work.row, tokens), keys, scale_);
    work.dense = dense_.rows(part.batch, 0);
    if (!dense_.keeps_attention()) {
      const MatrixView y =
          MatrixView(dense_y_).Rows(dense_.recomputes_projections() ? work.row : row, tokens);
      work.dense.a = y.data();
      work.dense.a_stride = y.stride();
      work.dense.transposed = keys.transposed;
    }
    work.scratch = scratch + panel_floats_;
    partials_[index] = value(work);
  });
}

void FusedObjective::FillDense() {
  if (!dense_.keeps_attention()) {
    Workspace::Grow(dense_y_, dense_.recomputes_projections() ? y_.rows() : batches_.total_tokens(),
                    batches_.features());
  }
  for (const ChunkParts& chunk : chunks_) {
    ComputeProducts(chunk.chunk, dense_w_, y_);
    if (dense_.keeps_projections()) {
      const MatrixView y = MatrixView(y_).Rows(0, chunk.chunk.tokens);
      std::copy_n(y.data(), y.size(), dense_y_.row(chunk.chunk.first_token));
    }
    ForEachPart(chunk, PanelUse::kLogits, [&](const Work& work) {
      return dense_.Fill(work.batch, 0, work.head, work.scratch);
    });
  }
  for (size_t i = 0; i < parts_.size(); ++i) dense_.norm(parts_[i].batch, 0) += partials_[i];
}

void FusedObjective::PrepareDense(const Chunk& chunk) {
  if (dense_.recomputes_projections()) ComputeProducts(chunk, dense_w_, dense_y_);
}

double FusedObjective::LossAndGradient(absl::Span<const MatrixView> weights,
                                       absl::Span<Matrix> gradients) {
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

AttentionError FusedObjective::Error(absl::Span<const MatrixView> weights) {
  for (const ChunkParts& chunk : chunks_) {
    PrepareDense(chunk.chunk);
    ComputeProducts(chunk.chunk, weights[0], y_);
    ForEachPart(chunk, PanelUse::kLogits, [&](const Work& work) {
      return AttentionKernelsOfThisCpu().difference(work.head, work.dense, work.scratch);
    });
  }
  return {{Sum(partials_)}, dense_.NormPerHead()};
}

double FusedObjective::SmallestLogAttention(absl::Span<const MatrixView> weights) {
  double smallest = 0;
  for (const ChunkParts& chunk : chunks_) {
    ComputeProducts(chunk.chunk, weights[0], y_);
    for (Index i = 0; i < chunk.chunk.batches; ++i) {
      const Index j = chunk.chunk.first_batch + i;
      const Index row = batches_.begin(j) - chunk.chunk.first_token;
      smallest =
          std::min(smallest, attnprune::SmallestLogAttention(
                                 dense_.layout(j), MatrixView(y_).Rows(row, batches_.length(j)),
                                 batches_.batch(j), scale_));
    }
  }
  return smallest;
}

}  // namespace attnprune
