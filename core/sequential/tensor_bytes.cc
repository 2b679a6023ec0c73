#include "core/sequential/tensor_bytes.h"

#include <utility>

#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/kernels/stored_values.h"
#include "core/tensor/bit_mask.h"

namespace attnprune {

absl::StatusOr<std::vector<StoredMap>> StoredMapsOf(const ModelWeights& model, Index layer,
                                                    const TensorMaps& tensor) {
  std::vector<StoredMap> stored;
  stored.reserve(tensor.maps.size());
  for (const LinearMap map : tensor.maps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<StoredMap> one, model.Map(layer, map));
    if (!one.has_value()) return absl::InternalError("a map of the tensor is not in the layer");
    stored.push_back(*std::move(one));
  }
  return stored;
}

absl::StatusOr<std::vector<char>> TensorBytes(const ModelWeights& model, Index layer,
                                              const TensorMaps& tensor,
                                              const LayerWeights& layer_weights) {
  const TensorInfo& stored = *tensor.stored;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredMap> maps, StoredMapsOf(model, layer, tensor));
  Matrix values(stored.shape[0], stored.shape[1]);
  BitMask mask(values.rows(), values.cols(), /*kept=*/true);
  for (size_t i = 0; i < maps.size(); ++i) {
    const float* const weights = layer_weights.of(tensor.maps[i]).weight.data();
    ForEntries(maps[i], 0, [&](Index to, Index from) {
      values.data()[to] = weights[from];
      if (weights[from] == 0.0f) mask.Prune(to);
    });
  }
  return RoundToStored(stored.name, stored.dtype, mask, stored.bytes, values.flat());
}

}  // namespace attnprune
