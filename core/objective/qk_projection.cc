#include "core/objective/qk_projection.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/functional/function_ref.h"
#include "core/kernels/attention.h"
#include "core/objective/sharded_gemm.h"

namespace attnprune {
namespace {

// To heads whose first is output `first_output`.
void AddBias(const std::vector<float>& bias, Index first_output, MutableMatrixView heads) {
  if (bias.empty()) return;
  const float* const of_heads = bias.data() + first_output;
  for (Index t = 0; t < heads.rows(); ++t) {
    for (Index j = 0; j < heads.cols(); ++j) heads(t, j) += of_heads[j];
  }
}

void Clip(float bound, MutableMatrixView rows) {
  for (Index t = 0; t < rows.rows(); ++t) {
    for (float* x = rows.row(t); x != rows.row(t) + rows.cols(); ++x) {
      *x = std::min(std::max(*x, -bound), bound);
    }
  }
}

// No gradient passes where the bound was reached.
void ClipBack(float bound, MatrixView clipped, MutableMatrixView gradient) {
  for (Index t = 0; t < clipped.rows(); ++t) {
    for (Index j = 0; j < clipped.cols(); ++j) {
      if (std::abs(clipped(t, j)) >= bound) gradient(t, j) = 0;
    }
  }
}

// Calls shard(row, rows) for runs of the rows 0, 1, ... of a chunk, on the pool's threads.
void ForRuns(ThreadPool& pool, Index rows, absl::FunctionRef<void(Index, Index)> shard) {
  constexpr Index kRows = 64;
  pool.ParallelFor((rows + kRows - 1) / kRows, [&](Index i) {
    ScopedFlushDenormals flush;
    shard(i * kRows, std::min(kRows, rows - i * kRows));
  });
}

std::vector<Index> Lengths(const Batches& batches) {
  std::vector<Index> lengths;
  for (Index j = 0; j < batches.count(); ++j) lengths.push_back(batches.length(j));
  return lengths;
}

}  // namespace

QkProjection::QkProjection(const ProjectionWeights& layer, const Batches& batches, ThreadPool& pool)
    : layer_(layer), batches_(batches), pool_(pool) {
  if (layer.rope.has_value()) {
    rope_ = RopeTables(*layer.rope, layer.head_dim(), Lengths(batches));
  }
  for (Index j = 0; j < batches.count(); ++j) {
    for (Index t = 0; t < batches.length(j); ++t) positions_.push_back(t);
    batch_of_.insert(batch_of_.end(), static_cast<size_t>(batches.length(j)), j);
  }
  if (layer.qk_norm.has_value()) {
    q_norm_ = QueryNorm(*layer.qk_norm, layer.head_dim());
    k_norm_ = KeyNorm(*layer.qk_norm, layer.head_dim());
  }
}

void QkProjection::Turn(Index first_token, float sign, MutableMatrixView heads) const {
  if (!layer_.rope.has_value()) return;
  Index row = 0;
  while (row < heads.rows()) {  // the rows of one batch, whose length decides its table
    const Index token = first_token + row, position = positions_[static_cast<size_t>(token)];
    const Index length = batches_.length(batch_of_[static_cast<size_t>(token)]);
    const Index rows = std::min(heads.rows() - row, length - position);
    Rotate(rope_.of(length), layer_.head_dim(), &positions_[static_cast<size_t>(token)], sign,
           heads.Rows(row, rows));
    row += rows;
  }
}

void QkProjection::TurnBack(Index batch, MutableMatrixView heads) const {
  Turn(batches_.begin(batch), -1.0f, heads);
}

void QkProjection::Project(const Chunk& chunk, MatrixView w, const std::vector<float>& bias,
                           Matrix& out) {
  const MatrixView tokens = batches_.all().Rows(chunk.first_token, chunk.tokens);
  ShardedGemm(pool_, tokens, Trans::kYes, w, MutableMatrixView(out).Rows(0, chunk.tokens),
              layer_.head_dim(), [&](Index row, Index col, MutableMatrixView tile) {
                AddBias(bias, col, tile);
                if (!layer_.has_norm_or_clip()) Turn(chunk.first_token + row, 1.0f, tile);
              });
}

void QkProjection::Finish(const RowNorm* norm, Index first_token, MutableMatrixView rows,
                          MutableMatrixView clipped) const {
  if (layer_.clip_qkv > 0) Clip(static_cast<float>(layer_.clip_qkv), rows);
  for (Index t = 0; t < clipped.rows(); ++t) {
    std::copy_n(rows.row(t), rows.cols(), clipped.row(t));
  }
  if (norm != nullptr) Normalize(*norm, rows, rows);
  Turn(first_token, 1.0f, rows);
}

void QkProjection::Forward(const Chunk& chunk, MatrixView w_q, MatrixView w_k, Pair out,
                           const Pair* clipped) {
  Project(chunk, w_q, layer_.b_q, out.q);
  Project(chunk, w_k, layer_.b_k, out.k);
  if (!layer_.has_norm_or_clip()) return;
  // A norm may be of a whole row, which no tile of the product has.
  const auto finish = [&](const absl::optional<RowNorm>& norm, Matrix& rows, Matrix* kept) {
    ForRuns(pool_, chunk.tokens, [&](Index row, Index count) {
      Finish(norm.has_value() ? &*norm : nullptr, chunk.first_token + row,
             MutableMatrixView(rows).Rows(row, count),
             kept == nullptr ? MutableMatrixView() : MutableMatrixView(*kept).Rows(row, count));
    });
  };
  finish(q_norm_, out.q, clipped == nullptr ? nullptr : &clipped->q);
  finish(k_norm_, out.k, clipped == nullptr ? nullptr : &clipped->k);
}

void QkProjection::Back(const RowNorm* norm, MatrixView clipped, MutableMatrixView gradient) const {
  if (norm != nullptr) NormalizeBackward(*norm, clipped, gradient);
  if (layer_.clip_qkv > 0) ClipBack(static_cast<float>(layer_.clip_qkv), clipped, gradient);
}

void QkProjection::Backward(const Chunk& chunk, Pair clipped, Pair gradient) {
  if (!layer_.has_norm_or_clip()) return;
  const auto back = [&](const absl::optional<RowNorm>& norm, const Matrix& at, Matrix& of) {
    ForRuns(pool_, chunk.tokens, [&](Index row, Index count) {
      Back(norm.has_value() ? &*norm : nullptr, MatrixView(at).Rows(row, count),
           MutableMatrixView(of).Rows(row, count));
    });
  };
  back(q_norm_, clipped.q, gradient.q);
  back(k_norm_, clipped.k, gradient.k);
}

void QkProjection::HeadBack(const RowNorm* norm, Index head, MatrixView token,
                            MutableMatrixView gradients) const {
  const Index dim = layer_.head_dim(), rows = gradients.rows();
  const bool alone = norm == nullptr || norm->group == dim;  // the head's own numbers suffice
  const Index first = alone ? 0 : head * dim, width = alone ? dim : token.cols();
  absl::optional<RowNorm> used;
  if (norm != nullptr) used = *norm;
  if (used.has_value() && alone && !used->weight.empty()) {
    used->weight = used->weight.subspan(static_cast<size_t>(head * dim), static_cast<size_t>(dim));
  }
  Matrix at(rows, width), wide(rows, width);
  for (Index i = 0; i < rows; ++i) {
    std::copy_n(token.row(0) + (alone ? head * dim : 0), width, at.row(i));
    std::copy_n(gradients.row(i), dim, wide.row(i) + first);
  }
  Back(used.has_value() ? &*used : nullptr, at, wide);
  for (Index i = 0; i < rows; ++i) std::copy_n(wide.row(i) + first, dim, gradients.row(i));
}

void QkProjection::PullBack(Of of, Index token, Index head, const float* clipped,
                            MutableMatrixView moment) const {
  const absl::optional<RowNorm>& norm = of == Of::kQueries ? q_norm_ : k_norm_;
  const Index outputs = of == Of::kQueries ? layer_.w_q.rows() : layer_.w_k.rows();
  const std::vector<Index> positions(static_cast<size_t>(moment.rows()),
                                     positions_[static_cast<size_t>(token)]);
  for (int side = 0; side < 2; ++side) {
    if (layer_.rope.has_value()) {
      Rotate(rope_.of(batches_.length(batch_of_[static_cast<size_t>(token)])), layer_.head_dim(),
             positions.data(), -1.0f, moment);
    }
    if (layer_.has_norm_or_clip()) {
      HeadBack(norm.has_value() ? &*norm : nullptr, head, MatrixView(clipped, 1, outputs), moment);
    }
    for (Index i = 0; i < moment.rows(); ++i) {
      for (Index j = 0; j < i; ++j) std::swap(moment(i, j), moment(j, i));
    }
  }
}

}  // namespace attnprune
