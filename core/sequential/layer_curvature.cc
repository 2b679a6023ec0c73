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

std::vector<absl::Span<double>> LayerCurvature::Sums() {
  std::vector<absl::Span<double>> sums;
  const auto add = [&sums](OutputCurvature& curvature) {
    for (OutputCurvature::Block& block : curvature.blocks) {
      sums.emplace_back(&block.moments(0, 0), block.moments.flat().size());
    }
  };
  for (OutputCurvature& map : maps) add(map);
  add(output);
  for (std::vector<double>& of_group : squares) {
    if (!of_group.empty()) sums.emplace_back(absl::MakeSpan(of_group));
  }
  return sums;
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
    if (weight.size() == 0) continue;
    curvature.maps[i] = NoCurvatureOf(weight.rows(), widest);
    curvature.squares[GroupOf(static_cast<LinearMap>(i))].assign(static_cast<size_t>(weight.cols()),
                                                                 0);
  }
  if (output) {
    curvature.output = NoCurvatureOf(layer.of(LinearMap::kDown).weight.rows(), widest);
  }
  return curvature;
}

}  // namespace attnprune
