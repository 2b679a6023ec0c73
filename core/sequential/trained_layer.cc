#include "core/sequential/trained_layer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/algorithm/container.h"
#include "core/kernels/descent.h"

namespace attnprune {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
constexpr double kScale = 2;  // times the mean of |W|

double MeanMagnitude(MatrixView w) {
  double sum = 0;
  for (Index i = 0; i < w.rows(); ++i) {
    for (Index j = 0; j < w.cols(); ++j) sum += std::abs(static_cast<double>(w(i, j)));
  }
  return sum / static_cast<double>(w.size());
}

}  // namespace

void LayerGradients::Begin(const LayerWeights& weights, absl::Span<const LinearMap> maps) {
  for (int i = 0; i < kLinearMaps; ++i) {
    const auto map = static_cast<LinearMap>(i);
    Matrix& gradient = gradients_[static_cast<size_t>(i)];
    const MatrixView weight = weights.of(map).weight;
    if (!absl::c_linear_search(maps, map)) {
      gradient = Matrix();
    } else if (gradient.rows() != weight.rows() || gradient.cols() != weight.cols()) {
      gradient = Matrix(weight.rows(), weight.cols());
    } else {
      std::fill_n(gradient.data(), gradient.size(), 0.0f);
    }
  }
}

void LayerGradients::Add(LinearMap map, MatrixView input, MatrixView gradient) {
  Matrix& sum = gradients_[static_cast<size_t>(map)];
  if (!sum.empty()) product_(gradient, input, Into::kAdd, sum);
}

TrainedLayer::TrainedLayer(LayerWeights weights, std::vector<LinearMap> maps,
                           const LayerWeights& dense)
    : weights_(std::move(weights)), maps_(std::move(maps)) {
  moments_.reserve(maps_.size());
  for (const LinearMap map : maps_) {
    const absl::Span<const float> values = Weights(map);
    moments_.push_back({.scale = static_cast<float>(kScale * MeanMagnitude(dense.of(map).weight)),
                        .first = std::vector<float>(values.size()),
                        .second = std::vector<float>(values.size()),
                        .best = {values.begin(), values.end()}});
  }
}

absl::Span<float> TrainedLayer::Weights(LinearMap map) {
  const MutableMatrixView weight = weights_.Mutable(map);
  return {weight.data(), static_cast<size_t>(weight.size())};
}

void TrainedLayer::Step(ThreadPool& pool, double rate, int t, LayerGradients& gradients) {
  constexpr size_t kShard = 16384;
  for (size_t i = 0; i < maps_.size(); ++i) {
    Moments& moments = moments_[i];
    const AdamStep step =
        MakeAdamStep(rate * static_cast<double>(moments.scale), kBeta1, kBeta2, t);
    const absl::Span<float> weights = Weights(maps_[i]), gradient = gradients.of(maps_[i]);
    const size_t shards = (weights.size() + kShard - 1) / kShard;
    pool.ParallelFor(static_cast<Index>(shards), [&](Index shard) {
      const size_t first = static_cast<size_t>(shard) * kShard;
      const size_t count = std::min(kShard, weights.size() - first);
      for (size_t j = first; j < first + count; ++j) {
        if (weights[j] == 0.0f) gradient[j] = 0.0f;
      }
      Adam(step, gradient.subspan(first, count),
           absl::MakeSpan(moments.first).subspan(first, count),
           absl::MakeSpan(moments.second).subspan(first, count), weights.subspan(first, count));
    });
  }
}

void TrainedLayer::KeepAsBest() {
  for (size_t i = 0; i < maps_.size(); ++i) {
    absl::c_copy(Weights(maps_[i]), moments_[i].best.begin());
  }
}

void TrainedLayer::TakeBest() {
  for (size_t i = 0; i < maps_.size(); ++i) {
    absl::c_copy(moments_[i].best, Weights(maps_[i]).begin());
  }
}

std::vector<absl::Span<float>> TrainedLayer::Values() {
  std::vector<absl::Span<float>> values;
  for (size_t i = 0; i < maps_.size(); ++i) {
    values.insert(values.end(),
                  {Weights(maps_[i]), absl::MakeSpan(moments_[i].first),
                   absl::MakeSpan(moments_[i].second), absl::MakeSpan(moments_[i].best)});
  }
  return values;
}

}  // namespace attnprune
