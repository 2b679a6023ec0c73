#include "core/methods/two_sided_admm.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/kernels/finite.h"
#include "core/methods/linear_map.h"
#include "core/tensor/eigen.h"

namespace attnprune {

TwoSidedAdmm::TwoSidedAdmm(Index outputs, Index inputs, const Sparsity& sparsity, ThreadPool& pool)
    : state(outputs, inputs, sparsity),
      sparsity_(sparsity),
      pool_(pool),
      target_(outputs, inputs),
      c_(outputs, inputs) {}

// Calls work(metric, rows) for each head on the pool's threads; rows(m): the head's of a matrix.
template <typename Work>
void TwoSidedAdmm::ForHeads(Work work) const {
  const Index heads = static_cast<Index>(metrics_->size()), dim = c_.rows() / heads;
  pool_.ParallelFor(heads, [&](Index head) {
    const auto rows = [&](auto& matrix) {
      if constexpr (std::is_const_v<std::remove_reference_t<decltype(matrix)>>) {
        return MatrixView(matrix).Rows(head * dim, dim);
      } else {
        return MutableMatrixView(matrix).Rows(head * dim, dim);
      }
    };
    work((*metrics_)[static_cast<size_t>(head)], rows);
  });
}

void TwoSidedAdmm::Aim(const std::vector<KroneckerMetric>& metrics, const Matrix& weights,
                       const Matrix& gradient, double mu) {
  metrics_ = &metrics;
  mu_ = static_cast<float>(mu);
  ForHeads([&](const KroneckerMetric& metric, auto rows) {
    const MutableMatrixView target = rows(target_), c = rows(c_);
    Matrix step(target.rows(), target.cols());
    metric.Unscale(rows(gradient), step);
    metric.Solve(step, mu_, 0, c);
    metric.Scale(rows(weights), target);
    ArrayOf(target) -= ArrayOf(c);
    metric.Multiply(target, mu_, c);
  });
}

void TwoSidedAdmm::Begin() {
  state = AdmmState(c_.rows(), c_.cols(), sparsity_);
  state.Begin(target_, sparsity_, pool_);
}

void TwoSidedAdmm::Step(int step) {
  const auto r = static_cast<float>(state.r);
  Matrix scores(c_.rows(), c_.cols());
  ForHeads([&](const KroneckerMetric& metric, auto rows) {
    const MutableMatrixView u = rows(state.u), score = rows(scores);
    ArrayOf(score) = ArrayOf(rows(c_)) - ArrayOf(rows(state.v)) + r * ArrayOf(rows(state.d));
    metric.Solve(score, mu_, r, u);
    ArrayOf(score) = (ArrayOf(u) + ArrayOf(rows(state.v)) / r).abs();
  });
  if (!AllFinite(scores.flat())) {  // has no order
    state.settled = true;
    return;
  }
  const BitMask support = Binarize(scores, /*inputs_are_rows=*/false, sparsity_, pool_);
  state.Project(support, pool_);
  if (state.Look(support, step)) state.Begin(target_, sparsity_, pool_);
}

void TwoSidedAdmm::Hold(const Matrix& weights) {
  ForHeads([&](const KroneckerMetric& metric, auto rows) {
    metric.Scale(rows(weights), rows(state.u));
  });
}

Matrix TwoSidedAdmm::Weights() const {
  Matrix weights(c_.rows(), c_.cols());
  ForHeads([&](const KroneckerMetric& metric, auto rows) {
    metric.Unscale(rows(state.d), rows(weights));
  });
  return weights;
}

BitMask TwoSidedAdmm::Support() const {
  return Binarize(Magnitudes(state.u), /*inputs_are_rows=*/false, sparsity_, pool_);
}

Matrix TwoSidedAdmm::LogScores() const {
  constexpr float kLeast = 1e-6f;
  Matrix scores(c_.rows(), c_.cols());
  ArrayOf(scores) = (ArrayOf(state.u) + ArrayOf(state.v) / static_cast<float>(state.r)).abs();
  float largest = 0;
  for (const float score : scores.flat()) {
    if (std::isfinite(score)) largest = std::max(largest, score);
  }
  const float least = largest > 0 ? kLeast * largest : 1;
  for (float& score : scores.flat()) {
    score = std::log(std::isfinite(score) ? std::max(score, least) : least);
  }
  return scores;
}

Matrix TwoSidedAdmm::Refined(const BitMask& support, int refine_steps) const {
  Matrix weights = support.Apply(state.u);
  const Matrix mask = support.ToMatrix();
  ForHeads([&](const KroneckerMetric& metric, auto rows) {
    metric.Refine(rows(c_), mu_, rows(mask), refine_steps, rows(weights));
    metric.Unscale(rows(weights), rows(weights));
  });
  return weights;
}

}  // namespace attnprune
