// What the model's loss feels of changes at the outputs of one layer's linear maps.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_LAYER_CURVATURE_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_LAYER_CURVATURE_H_

#include <array>
#include <vector>

#include "absl/types/span.h"
#include "core/methods/output_metric.h"
#include "core/model/model_weights.h"
#include "core/sequential/stretch.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Of a layer. Sums over the tokens and labels that it was taken on.
struct LayerCurvature {
  std::array<OutputCurvature, kLinearMaps> maps;        // B; empty: the family has no such map
  std::array<std::vector<double>, kMapGroups> squares;  // x_b^2 of each group's inputs
  OutputCurvature output;  // R, of the layer's output; empty: not asked

  const OutputCurvature& of(LinearMap map) const { return maps[static_cast<size_t>(map)]; }
  // Of maps whose rows lie behind each other, as one matrix.
  OutputCurvature OfRows(absl::Span<const LinearMap> together) const;
  std::vector<double> DiagonalOf(LinearMap map) const;  // of B
  // Everything above, in a fixed order.
  std::vector<absl::Span<double>> Sums();
};

// The sizes of the blocks of B of a map with so many outputs: as even as can be, none wider.
std::vector<Index> CurvatureBlocks(Index outputs, Index widest);

// All zeros, in such blocks. output: with R.
LayerCurvature NoCurvature(const LayerWeights& layer, Index widest, bool output);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_LAYER_CURVATURE_H_
