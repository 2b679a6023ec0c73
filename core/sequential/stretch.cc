#include "core/sequential/stretch.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

const std::array<MapGroup, kMapGroups>& Groups() {
  using Until = LayerHooks::Until;
  static const std::array<MapGroup, kMapGroups>& groups = *new std::array<MapGroup, kMapGroups>{
      {{{LinearMap::kQuery, LinearMap::kKey, LinearMap::kValue},
        &LayerHooks::attention_input,
        Until::kAttentionInput},
       {{LinearMap::kOutput}, &LayerHooks::output_input, Until::kOutputInput},
       {{LinearMap::kGate, LinearMap::kUp}, &LayerHooks::mlp_input, Until::kMlpInput},
       {{LinearMap::kDown}, &LayerHooks::down_input, Until::kDownInput}}};
  return groups;
}

// The group's tensors with the maps that lie in each.
absl::StatusOr<std::vector<TensorMaps>> TensorsOf(const ModelWeights& model, Index layer,
                                                  const MapGroup& group) {
  std::vector<TensorMaps> tensors;
  for (const LinearMap map : group.maps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> stored, model.Map(layer, map));
    if (!stored.has_value()) continue;
    if (tensors.empty() || tensors.back().stored != stored->weight) {
      tensors.push_back({stored->weight, {}});
    }
    tensors.back().maps.push_back(map);
  }
  return tensors;
}

}  // namespace

const MapGroup& GroupAt(size_t group) { return Groups()[group]; }

size_t GroupOf(LinearMap map) {
  size_t group = 0;
  while (!absl::c_linear_search(GroupAt(group).maps, map)) ++group;
  return group;
}

bool TensorMaps::has_attention_maps() const {
  return std::any_of(maps.begin(), maps.end(), IsAttentionMap);
}

std::vector<LinearMap> Stretch::Piece::maps() const {
  std::vector<LinearMap> all;
  for (const Tensor& tensor : tensors) {
    all.insert(all.end(), tensor.what.maps.begin(), tensor.what.maps.end());
  }
  return all;
}

std::vector<Stretch::Piece> Stretch::Pieces() const {
  const absl::Span<const Tensor> all = tensors;
  std::vector<Piece> pieces;
  pieces.reserve(tensors.size());
  if (attention_tensors > 0) {
    pieces.push_back({.tensors = all.first(attention_tensors), .attention = true});
  }
  for (size_t i = attention_tensors; i < all.size(); ++i) {
    pieces.push_back({.tensors = all.subspan(i, 1), .attention = false});
  }
  return pieces;
}

absl::StatusOr<std::vector<Stretch>> StretchesOf(const ModelWeights& model, Index layer,
                                                 Passes passes, const Chosen& chosen,
                                                 const Chosen& as_attention) {
  std::vector<Stretch> stretches;
  for (size_t g = 0; g < Groups().size(); ++g) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<TensorMaps> tensors,
                               TensorsOf(model, layer, Groups()[g]));
    std::erase_if(tensors, [&](const TensorMaps& tensor) { return !chosen(layer, tensor); });
    if (tensors.empty()) continue;
    if (stretches.empty() || passes == Passes::kByGroup) stretches.emplace_back();
    Stretch& stretch = stretches.back();
    for (TensorMaps& tensor : tensors) {
      if (tensor.has_attention_maps() && as_attention && as_attention(layer, tensor)) {
        ++stretch.attention_tensors;
      }
      stretch.tensors.push_back({std::move(tensor), stretch.groups.size()});
    }
    stretch.groups.push_back(g);
  }
  return stretches;
}

}  // namespace attnprune
