// The kept weights of a pruned layer while they are trained: Adam, with the mask fixed.
//
// Kingma and Ba, "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980); constants 0.9 and
// 0.999.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_TRAINED_LAYER_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_TRAINED_LAYER_H_

#include <array>
#include <vector>

#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/model/layer_backward.h"
#include "core/model/model_weights.h"
#include "core/objective/sharded_gemm.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Gradients in the weights of one layer, added up while it is run backwards.
class LayerGradients {
 public:
  explicit LayerGradients(ThreadPool& pool) : product_(pool) {}

  // From here on those of `maps` of a layer are added up, from 0.
  void Begin(const LayerWeights& weights, absl::Span<const LinearMap> maps);
  // As BackwardHooks::map_gradient; other maps are passed over.
  void Add(LinearMap map, MatrixView input, MatrixView gradient);
  absl::Span<float> of(LinearMap map) { return gradients_[static_cast<size_t>(map)].flat(); }

 private:
  std::array<Matrix, kLinearMaps> gradients_;  // empty: not wanted
  ShardedTransposedGemm product_;
};

class TrainedLayer {
 public:
  // weights: the pruned layer's. maps: those that are trained; of each, entries that are exactly 0
  // stay so. dense: the layer before it was pruned, for the scale of each map's steps: twice the
  // mean of its |W|.
  TrainedLayer(LayerWeights weights, std::vector<LinearMap> maps, const LayerWeights& dense);

  const LayerWeights& weights() const { return weights_; }
  absl::Span<const LinearMap> maps() const { return maps_; }

  // Step t = 1, 2, ... on the gradients of all maps. rate: in units of the maps' scales. The bits
  // do not depend on the pool's threads.
  void Step(ThreadPool& pool, double rate, int t, LayerGradients& gradients);

  void KeepAsBest();  // the weights as they are now
  void TakeBest();    // those that were kept last; as given before the first

  // Weights, both moments and the best weights of each map: what a run goes on from.
  std::vector<absl::Span<float>> Values();

 private:
  struct Moments {
    float scale = 0;
    std::vector<float> first, second, best;
  };
  absl::Span<float> Weights(LinearMap map);

  LayerWeights weights_;
  std::vector<LinearMap> maps_;
  std::vector<Moments> moments_;  // by maps_
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_TRAINED_LAYER_H_
