#include "core/sequential/layer_curvature.h"

#include <cstddef>

namespace attnprune {
namespace {

OutputCurvature NoCurvatureOf(Index outputs, Index widest) {
  OutputCurvature curvature;
  Index first = 0;
  for (const Index block : CurvatureBlocks(outputs, widest)) {
    curvature.blocks.push_back({.first = first, .moments = GramMatrix(block)});
    first += block;
  }
  return curvature;
}

}  // namespace

OutputCurvature LayerCurvature::OfRows(absl::Span<const LinearMap> together) const {
  OutputCurvature all;
  Index first = 0;
  for (const LinearMap map : together) {
    Index rows = 0;
    for (const OutputCurvature::Block& block : of(map).blocks) {
      all.blocks.push_back({.first = first + block.first, .moments = block.moments});
      rows = block.first + block.moments.size();
    }
    first += rows;
  }
  return all;
}

std::vector<double> LayerCurvature::DiagonalOf(LinearMap map) const {
  std::vector<double> diagonal;
  for (const OutputCurvature::Block& block : of(map).blocks) {
    for (Index i = 0; i < block.moments.size(); ++i) diagonal.push_back(block.moments(i, i));
  }
  return diagonal;
}

std::vector<Index> CurvatureBlocks(Index outputs, Index widest) {
  const Index blocks = (outputs + widest - 1) / widest;
  std::vector<Index> sizes;
  for (Index b = 0; b < blocks; ++b) {
    sizes.push_back(outputs * (b + 1) / blocks - outputs * b / blocks);
  }
  return sizes;
}

LayerCurvature NoCurvature(const LayerWeights& layer, Index widest, bool output) {
  LayerCurvature curvature;
  for (size_t i = 0; i < curvature.maps.size(); ++i) {
    const MatrixView weight = layer.maps[i].weight;
    if (weight.size() > 0) curvature.maps[i] = NoCurvatureOf(weight.rows(), widest);
  }
  if (output) {
    curvature.output = NoCurvatureOf(layer.of(LinearMap::kDown).weight.rows(), widest);
  }
  return curvature;
}

}  // namespace attnprune
