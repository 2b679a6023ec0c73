// A layer's tensor as its file holds it, from the weights of the maps that lie in it.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_TENSOR_BYTES_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_TENSOR_BYTES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/model/model_weights.h"
#include "core/sequential/stretch.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Where the tensor's maps are in it, in their order. Errors of ModelWeights::Map.
absl::StatusOr<std::vector<StoredMap>> StoredMapsOf(const ModelWeights& model, Index layer,
                                                    const TensorMaps& tensor);

// Calls visit(flat entry of the tensor, flat entry of the matrix) for all entries of a map whose
// first row is row `first` of a matrix of all maps of the tensor.
template <typename Visit>
void ForEntries(const StoredMap& map, Index first, const Visit& visit) {
  const Index columns = map.weight->shape[1];
  Index row = first;
  for (const RowRun& run : map.rows) {
    for (Index i = run.first; i < run.first + run.count; ++i, ++row) {
      for (Index j = 0; j < map.in; ++j) {
        visit(map.transposed ? j * columns + i : i * columns + j, row * map.in + j);
      }
    }
  }
}

// The tensor's bytes with the weights that `layer_weights` has for its maps, in its dtype, rounded
// to nearest even. OUT_OF_RANGE: a weight is too large for the dtype; StoredMapsOf's errors.
absl::StatusOr<std::vector<char>> TensorBytes(const ModelWeights& model, Index layer,
                                              const TensorMaps& tensor,
                                              const LayerWeights& layer_weights);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_TENSOR_BYTES_H_
