#include "core/model/cached_forward.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {

absl::StatusOr<CachedForward> CachedForward::Open(Forward& forward, HeldWeights held) {
  ATTNPRUNE_RETURN_IF_ERROR(forward.CheckPredicts());
  const auto open_head = [&forward] {
    return VocabularyHead::Open(forward.weights(), forward.pool(), Compute::kFloat32);
  };
  CachedForward cached(forward);
  cached.all_held_ = held == HeldWeights::kAll;
  ATTNPRUNE_ASSIGN_OR_RETURN(VocabularyHead first, open_head());
  const Index vocabulary = first.vocabulary();
  cached.heads_.push_back(std::move(first));
  if (!cached.all_held_) {
    cached.layers_.resize(1);
    return cached;
  }
  cached.layers_.resize(static_cast<size_t>(forward.options().layer_count()));
  for (size_t layer = 0; layer < cached.layers_.size(); ++layer) {
    ATTNPRUNE_RETURN_IF_ERROR(forward.weights().LoadLayer(static_cast<Index>(layer), forward.pool(),
                                                          cached.layers_[layer]));
  }
  for (Index at = 0; at < vocabulary; at += VocabularyHead::kPiece) {
    if (at > 0) {
      ATTNPRUNE_ASSIGN_OR_RETURN(VocabularyHead next, open_head());
      cached.heads_.push_back(std::move(next));
    }
    ATTNPRUNE_RETURN_IF_ERROR(cached.heads_.back().Load(at));
  }
  return cached;
}

void CachedForward::Begin(absl::Span<const Index> lengths) {
  caches_.clear();
  for (Index layer = 0; layer < forward_.options().layer_count(); ++layer) {
    caches_.emplace_back(forward_.options(), layer, lengths);
  }
  position_ = 0;
}

absl::Status CachedForward::Advance(absl::Span<const int64_t> ids) {
  const std::vector<Index> positions(ids.size(), position_++);
  if (x_.rows() != std::ssize(ids)) x_ = Matrix(std::ssize(ids), forward_.options().hidden_size);
  ATTNPRUNE_RETURN_IF_ERROR(forward_.Embed(ids, positions, x_));
  for (size_t layer = 0; layer < caches_.size(); ++layer) {
    LayerWeights& weights = layers_[all_held_ ? layer : 0];
    if (!all_held_) {
      ATTNPRUNE_RETURN_IF_ERROR(
          forward_.weights().LoadLayer(static_cast<Index>(layer), forward_.pool(), weights));
    }
    layer_.Step(weights, caches_[layer], x_);
  }
  return absl::OkStatus();
}

absl::Status CachedForward::Logits(Matrix& logits) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Matrix input, forward_.Final(x_));
  const Index vocabulary = heads_[0].vocabulary();
  if (logits.rows() != x_.rows() || logits.cols() != vocabulary) {
    logits = Matrix(x_.rows(), vocabulary);
  }
  size_t piece = 0;
  for (Index first = 0; first < vocabulary; first += VocabularyHead::kPiece, ++piece) {
    VocabularyHead& head = heads_[all_held_ ? piece : 0];
    if (!all_held_) ATTNPRUNE_RETURN_IF_ERROR(head.Load(first));
    head.ForLogits(input, [&](Index row, MutableMatrixView of_piece) {
      CopyRows(of_piece,
               MutableMatrixView(logits).Block(row, first, of_piece.rows(), of_piece.cols()));
    });
  }
  return absl::OkStatus();
}

}  // namespace attnprune
