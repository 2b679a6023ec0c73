#include "core/model/layer_cache.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/alibi.h"
#include "core/kernels/attention.h"
#include "core/kernels/blas.h"
#include "core/kernels/log_sum_exp.h"

namespace attnprune {

LayerCache::LayerCache(const ModelOptions& options, Index layer, absl::Span<const Index> lengths)
    : options_(options), mask_(options.Mask(layer)), lengths_(lengths.begin(), lengths.end()) {
  Index tokens = 0;
  for (const Index length : lengths) {
    begins_.push_back(tokens * options.kv_heads);
    tokens += length;
  }
  const absl::optional<Rope>& rope = options.layers[static_cast<size_t>(layer)].rope;
  has_rope_ = rope.has_value();
  if (has_rope_) rope_ = RopeTables(*rope, options.head_dim, lengths);
  alibi_ =
      AlibiBias(options.alibi, options.heads, *std::max_element(lengths.begin(), lengths.end()),
                static_cast<float>(options.attention_scale));
  keys_ = Matrix(tokens * options.kv_heads, options.head_dim);
  values_ = Matrix(tokens * options.kv_heads, options.head_dim);
}

void LayerCache::Turn(ThreadPool& pool, MutableMatrixView heads) const {
  if (!has_rope_) return;
  pool.ParallelFor(heads.rows(), [&](Index row) {
    const RopeTable& table = rope_.of(lengths_[static_cast<size_t>(row)]);
    Rotate(table, options_.head_dim, &position_, 1.0f, heads.Rows(row, 1));
  });
}

void LayerCache::Mix(ThreadPool& pool, MatrixView q, MatrixView k, MatrixView v,
                     MutableMatrixView mixed) {
  rooms_.resize(static_cast<size_t>(pool.threads()));
  pool.ParallelFor(q.rows(), [&](Index row, int worker) {
    ScopedFlushDenormals flush;
    MixRow(row, q, k, v, mixed, rooms_[static_cast<size_t>(worker)]);
  });
  ++position_;
}

void LayerCache::MixRow(Index row, MatrixView q, MatrixView k, MatrixView v,
                        MutableMatrixView mixed, std::vector<float>& room) {
  const Index length = lengths_[static_cast<size_t>(row)], width = options_.head_dim;
  const Index group = options_.heads / options_.kv_heads;
  const Index first = mask_.Keys(position_, length).begin, count = position_ + 1 - first;
  room.resize(static_cast<size_t>(group * count));
  const MutableMatrixView logits(room.data(), group, count);
  for (Index head = 0; head < options_.kv_heads; ++head) {
    const Index begin = begins_[static_cast<size_t>(row)] + head * length;
    std::copy_n(k.row(row) + head * width, width, keys_.row(begin + position_));
    std::copy_n(v.row(row) + head * width, width, values_.row(begin + position_));
    const MatrixView queries(q.row(row) + head * group * width, group, width);
    const MutableMatrixView out(mixed.row(row) + head * group * width, group, width);
    Gemm(Trans::kNo, Trans::kYes, static_cast<float>(options_.attention_scale), queries,
         MatrixView(keys_).Rows(begin + first, count), 0.0f, logits);
    ToSoftmax(head * group, first, logits);
    Gemm(Trans::kNo, Trans::kNo, 1.0f, logits, MatrixView(values_).Rows(begin + first, count), 0.0f,
         out);
  }
}

// Of some heads' logits with the keys first_key, first_key + 1, ...
void LayerCache::ToSoftmax(Index head, Index first_key, MutableMatrixView logits) const {
  const auto cap = static_cast<float>(options_.softcap);
  for (Index i = 0; i < logits.rows(); ++i) {
    float* const row = logits.row(i);
    const float* const bias = alibi_.empty() ? nullptr : alibi_.row(head + i) + first_key;
    for (Index j = 0; bias != nullptr && j < logits.cols(); ++j) row[j] += bias[j];
    for (Index j = 0; cap > 0 && j < logits.cols(); ++j) row[j] = cap * std::tanh(row[j] / cap);
    LogSumExp all;
    all.Add(row, logits.cols());
    ToProbabilities(all.value(), row, logits.cols());
  }
}

}  // namespace attnprune
