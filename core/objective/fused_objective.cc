#include "core/objective/fused_objective.h"

#include <algorithm>
#include <numeric>

#include "core/kernels/blas.h"
#include "core/objective/sharded_gemm.h"

namespace attnprune {
namespace {

constexpr Index kTokensPerShard = 256;

double Sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

FusedObjective::FusedObjective(const Problem& problem, const Batches& batches, ThreadPool& pool)
    : batches_(batches),
      pool_(pool),
      scale_(problem.effective_scale()),
      dense_(problem.attention, batches, 1),
      y_(batches.total_tokens(), batches.features()),
      z_(batches.total_tokens(), batches.features()),
      partials_(static_cast<size_t>(batches.count())) {
  ComputeProducts(problem.fused_weights().w);
  pool_.ParallelFor(batches_.count(), [&](Index j) {
    ScopedFlushDenormals flush;
    dense_.norm(j, 0) = DenseAttention(dense_.layout(j), BatchRows(y_, j), batches_.batch(j),
                                       scale_, dense_.packed(j, 0));
  });
}

MatrixView FusedObjective::BatchRows(const Matrix& stacked, Index batch) const {
  return MatrixView(stacked).Rows(batches_.begin(batch), batches_.length(batch));
}

void FusedObjective::ComputeProducts(MatrixView w) {
  ForRowShards(pool_, batches_.total_tokens(), kTokensPerShard, [&](Index first, Index count) {
    ScopedFlushDenormals flush;
    Gemm(Trans::kNo, Trans::kNo, 1.0f, batches_.all().Rows(first, count), w, 0.0f,
         MutableMatrixView(y_).Rows(first, count));
  });
}

double FusedObjective::LossAndGradient(absl::Span<const MatrixView> weights,
                                       absl::Span<Matrix> gradients) {
  ComputeProducts(weights[0]);
  pool_.ParallelFor(batches_.count(), [&](Index j) {
    ScopedFlushDenormals flush;
    MutableMatrixView z = MutableMatrixView(z_).Rows(batches_.begin(j), batches_.length(j));
    partials_[static_cast<size_t>(j)] =
        AttentionLossGradient(dense_.layout(j), BatchRows(y_, j), batches_.batch(j), scale_,
                              dense_.packed(j, 0), z, MutableMatrixView());
  });
  if (gradients[0].empty()) gradients[0] = Matrix(weights[0].rows(), weights[0].cols());
  ShardedTransposedGemm(pool_, 1.0f, batches_.all(), z_, gradients[0]);
  return Sum(partials_);
}

AttentionError FusedObjective::Error(absl::Span<const MatrixView> weights) {
  ComputeProducts(weights[0]);
  pool_.ParallelFor(batches_.count(), [&](Index j) {
    ScopedFlushDenormals flush;
    partials_[static_cast<size_t>(j)] = AttentionDifference(
        dense_.layout(j), BatchRows(y_, j), batches_.batch(j), scale_, dense_.packed(j, 0));
  });
  return {{Sum(partials_)}, dense_.NormPerHead()};
}

double FusedObjective::SmallestLogAttention(absl::Span<const MatrixView> weights) {
  ComputeProducts(weights[0]);
  pool_.ParallelFor(batches_.count(), [&](Index j) {
    partials_[static_cast<size_t>(j)] = attnprune::SmallestLogAttention(
        dense_.layout(j), BatchRows(y_, j), batches_.batch(j), scale_);
  });
  return *std::min_element(partials_.begin(), partials_.end());
}

}  // namespace attnprune
