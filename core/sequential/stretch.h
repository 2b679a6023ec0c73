// Which linear maps of a layer are pruned, in which order, and on which of its inputs.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_STRETCH_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_STRETCH_H_

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/layer_forward.h"
#include "core/model/model_weights.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Maps of a layer that share their inputs.
struct MapGroup {
  std::vector<LinearMap> maps;
  LayerHooks::Input LayerHooks::*input;
  LayerHooks::Until until;
};
inline constexpr size_t kMapGroups = 4;  // q, k, v; o; gate, up; down
const MapGroup& GroupAt(size_t group);
size_t GroupOf(LinearMap map);

inline bool IsAttentionMap(LinearMap map) {
  return map == LinearMap::kQuery || map == LinearMap::kKey;
}

// Linear maps that lie in one tensor.
struct TensorMaps {
  const TensorInfo* stored;  // where they are
  std::vector<LinearMap> maps;

  bool has_attention_maps() const;
};

// Maps that are pruned on one pass over the tokens, in their order.
struct Stretch {
  struct Tensor {
    TensorMaps what;
    size_t inputs;  // which of the groups' moments are its own
  };
  // What is pruned at once: a tensor, as one matrix; or those with q and k, as attention.
  struct Piece {
    absl::Span<const Tensor> tensors;
    bool attention = false;

    std::vector<LinearMap> maps() const;
  };
  // Valid as long as the stretch.
  std::vector<Piece> Pieces() const;

  std::vector<size_t> groups;
  std::vector<Tensor> tensors;
  size_t attention_tensors = 0;  // the first ones of `tensors`: those with q and k
};

// Whether a tensor of a layer is pruned; whether it is, as attention.
using Chosen = std::function<bool(Index layer, const TensorMaps& tensor)>;

// How often inputs are taken within a layer.
enum class Passes {
  // For q, k, v; for o; for gate, up; for down: each sees what the pruned ones before it give
  // (SparseGPT's --true-sequential).
  kByGroup,
  kOnce,  // all of them in the dense layer
};

// The layer's stretches in order, those of chosen tensors only. as_attention: of chosen tensors
// with q or k; for both or for neither; null: none. Errors of ModelWeights::Map.
absl::StatusOr<std::vector<Stretch>> StretchesOf(const ModelWeights& model, Index layer,
                                                 Passes passes, const Chosen& chosen,
                                                 const Chosen& as_attention = nullptr);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_STRETCH_H_
