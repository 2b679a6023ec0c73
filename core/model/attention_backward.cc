#include <algorithm>
#include <cstddef>
#include <vector>

#include "core/kernels/blas.h"
#include "core/kernels/lanes.h"
#include "core/model/attention_shards.h"

namespace attnprune {
namespace {

void SetZero(MutableMatrixView m) {
  for (Index i = 0; i < m.rows(); ++i) std::fill_n(m.row(i), m.cols(), 0.0f);
}

// One shard's part of AttentionBackward.
class ShardBackward {
 public:
  ShardBackward(const AttentionShards& shards, const AttentionShards::Shard& shard,
                const AttentionValues& values, const AttentionGradients& gradients,
                const AttentionPull* pull, float* room)
      : shards_(shards),
        shard_(shard),
        values_(values),
        k_(shards.Head(shard, values.k, shard.kv_head)),
        v_(shards.Head(shard, values.v, shard.kv_head)),
        d_k_(shards.Head(shard, gradients.k, shard.kv_head)),
        d_v_(shards.Head(shard, gradients.v, shard.kv_head)),
        keys_(shards.Pack(shard, values.k, room)),
        f_(room + shards.key_floats()),
        d_logits_(f_ + shards.softmax_floats()),
        capped_(d_logits_ + shards.block_floats()),
        pull_(pull),
        pulled_keys_(
            pull == nullptr ? keys_ : shards.Pack(shard, pull->k, capped_ + shards.block_floats())),
        pulled_(pull == nullptr ? nullptr : capped_ + shards.block_floats() + shards.key_floats()) {
    SetZero(d_k_);
    SetZero(d_v_);
  }

  static Index Floats(const AttentionShards& shards, const AttentionPull* pull) {
    const Index twice = pull == nullptr ? 1 : 2;
    return twice * (shards.key_floats() + shards.softmax_floats()) + 2 * shards.block_floats();
  }

  void Head(Index head, MatrixView d_mixed, MutableMatrixView d_q,
            AttentionDistance& distance) const {
    const MatrixView q = shards_.Head(shard_, values_.q, head);
    const MatrixView mixed = shards_.Head(shard_, values_.mixed, head);
    for (size_t b = 0; b < shard_.layout->blocks().size(); ++b) {
      const AttentionBlock& block = shard_.layout->blocks()[b];
      const MatrixView f =
          shards_.Softmax(shard_, static_cast<Index>(b), head, values_.q, keys_, f_);
      const MatrixView d_out = d_mixed.Rows(block.row, block.rows);
      const MatrixView queries = q.Rows(block.row, block.rows);
      const MatrixView keys = k_.Rows(block.key, block.keys);
      const MutableMatrixView d_logits(d_logits_, block.rows, block.keys, block.stride);
      Gemm(Trans::kYes, Trans::kNo, 1.0f, f, d_out, 1.0f, d_v_.Rows(block.key, block.keys));
      Gemm(Trans::kNo, Trans::kYes, 1.0f, d_out, v_.Rows(block.key, block.keys), 0.0f, d_logits);
      ThroughSoftmax(f, d_out, mixed.Rows(block.row, block.rows), d_logits);
      if (pull_ != nullptr) Pull(static_cast<Index>(b), head, f, d_logits, distance);
      if (shards_.softcap() > 0) ThroughSoftcap(block, head, queries, keys, d_logits);
      Gemm(Trans::kNo, Trans::kNo, shards_.scale(), d_logits, keys, 0.0f,
           d_q.Rows(block.row, block.rows));
      Gemm(Trans::kYes, Trans::kNo, shards_.scale(), d_logits, queries, 1.0f,
           d_k_.Rows(block.key, block.keys));
    }
  }

 private:
  // d: the gradient at f on entry, at its logits on return. d_out o out summed over a row is f o d.
  static void ThroughSoftmax(MatrixView f, MatrixView d_out, MatrixView out, MutableMatrixView d) {
    for (Index i = 0; i < d.rows(); ++i) {
      double sum = 0;
      for (Index j = 0; j < out.cols(); ++j) {
        sum += static_cast<double>(d_out(i, j)) * static_cast<double>(out(i, j));
      }
      const auto weighted = static_cast<float>(sum);
      const float* const row = f.row(i);
      float* const to = d.row(i);
      for (Index j = 0; j < d.cols(); ++j) to[j] = row[j] * (to[j] - weighted);
    }
  }

  // Adds what the pull makes of a block to the gradient at its logits.
  void Pull(Index block, Index head, MatrixView f, MutableMatrixView d,
            AttentionDistance& distance) const {
    const MatrixView target = shards_.Softmax(shard_, block, head, pull_->q, pulled_keys_, pulled_);
    const double twice = 2 * static_cast<double>(pull_->factor);
    for (Index i = 0; i < d.rows(); ++i) {
      double weighted = 0;  // f o (f - f*)
      for (Index j = 0; j < d.cols(); ++j) {
        const double at = f(i, j), wanted = target(i, j), off = at - wanted;
        weighted += at * off;
        distance.squared += off * off;
        distance.target += wanted * wanted;
      }
      for (Index j = 0; j < d.cols(); ++j) {
        const double at = f(i, j), off = at - static_cast<double>(target(i, j));
        d(i, j) += static_cast<float>(twice * at * (off - weighted));
      }
    }
  }

  // d <- d o (1 - tanh^2(S / c)). Whole vectors: rows are padded to them.
  void ThroughSoftcap(const AttentionBlock& block, Index head, MatrixView queries, MatrixView keys,
                      MutableMatrixView d) const {
    const MutableMatrixView logits(capped_, block.rows, block.keys, block.stride);
    Gemm(Trans::kNo, Trans::kYes, shards_.scale(), queries, keys, 0.0f, logits);
    const float* const bias = shards_.KeyBias(head);
    const float inverse = 1 / shards_.softcap();
    for (Index i = 0; i < d.rows(); ++i) {
      for (Index j = 0; j < d.cols(); j += kLanes) {
        Lanes capped = LoadLanes(logits.row(i) + j);
        if (bias != nullptr) capped += LoadLanes(bias + block.key + j);
        capped = Tanh(capped * inverse);
        StoreLanes(d.row(i) + j, LoadLanes(d.row(i) + j) * (1.0f - capped * capped));
      }
    }
  }

  const AttentionShards& shards_;
  const AttentionShards::Shard& shard_;
  const AttentionValues& values_;
  const MatrixView k_, v_;
  const MutableMatrixView d_k_, d_v_;
  const KeyPanels keys_;
  float *const f_, *const d_logits_, *const capped_;
  const AttentionPull* const pull_;
  const KeyPanels pulled_keys_;
  float* const pulled_;
};

}  // namespace

AttentionDistance AttentionBackward(ThreadPool& pool, const AttentionShards& shards,
                                    const AttentionValues& values, MatrixView d_mixed,
                                    const AttentionGradients& gradients, ThreadScratch& scratch,
                                    const AttentionPull* pull) {
  scratch.Reserve(pool, ShardBackward::Floats(shards, pull));
  std::vector<AttentionDistance> distances(static_cast<size_t>(shards.count()));
  pool.ParallelFor(shards.count(), [&](Index i, int worker) {
    ScopedFlushDenormals flush;
    const AttentionShards::Shard shard = shards.at(i);
    const ShardBackward backward(shards, shard, values, gradients, pull, scratch.of(worker));
    for (Index head = shard.first_head; head < shard.end_head; ++head) {
      backward.Head(head, shards.Head(shard, d_mixed, head), shards.Head(shard, gradients.q, head),
                    distances[static_cast<size_t>(i)]);
    }
  });
  AttentionDistance all;
  for (const AttentionDistance& one : distances) {
    all.squared += one.squared;
    all.target += one.target;
  }
  return all;
}

}  // namespace attnprune
