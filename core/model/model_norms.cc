#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/model_weights.h"

namespace attnprune {
namespace {

bool IsRms(NormFamily family) {
  return family == NormFamily::kRms || family == NormFamily::kRmsPlusOne;
}

// One weight of head_dim for every head.
std::vector<float> Tile(const std::vector<float>& one, Index heads) {
  std::vector<float> all;
  for (Index h = 0; h < heads; ++h) all.insert(all.end(), one.begin(), one.end());
  return all;
}

void AddOne(NormFamily family, std::vector<float>& weight) {
  if (family != NormFamily::kRmsPlusOne) return;
  for (float& entry : weight) entry += 1;
}

}  // namespace

absl::StatusOr<OptionalNorm> ModelWeights::Norm(const std::string& name) const {
  if (name.empty()) return absl::nullopt;
  NormWeights norm;
  norm.kind = IsRms(options_.norm) ? NormKind::kRms : NormKind::kLayer;
  norm.eps = options_.norm_eps;
  if (options_.norm == NormFamily::kPlainLayer) return norm;
  const Index d = options_.hidden_size;
  ATTNPRUNE_ASSIGN_OR_RETURN(norm.weight, Vector(absl::StrCat(name, ".weight"), d));
  AddOne(options_.norm, norm.weight);
  const std::string bias = absl::StrCat(name, ".bias");
  if (!IsRms(options_.norm) && Has(bias)) {
    ATTNPRUNE_ASSIGN_OR_RETURN(norm.bias, Vector(bias, d));
  }
  return norm;
}

absl::StatusOr<OptionalNorm> ModelWeights::QkNormOf(Index layer, bool query) const {
  if (options_.qk_norm == QkNormTensors::kNone) return absl::nullopt;
  const Index heads = query ? options_.heads : options_.kv_heads;
  NormWeights norm;
  norm.kind = IsRms(options_.norm) ? NormKind::kRms : NormKind::kLayer;
  norm.eps = options_.norm_eps;
  norm.group = options_.qk_norm == QkNormTensors::kWhole ? 0 : options_.head_dim;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<const TensorInfo*> stored,
                             QkNormTensorsOf(layer, query));
  for (const TensorInfo* tensor : stored) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<double> values, ToDoubles(*tensor));
    for (const double value : values) norm.weight.push_back(static_cast<float>(value));
  }
  AddOne(options_.norm, norm.weight);
  if (options_.qk_norm == QkNormTensors::kHead) norm.weight = Tile(norm.weight, heads);
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* bias, QkNormBiasOf(layer, query));
  if (bias != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> one, Vector(bias->name, options_.head_dim));
    norm.bias = Tile(one, heads);
  }
  return norm;
}

absl::StatusOr<std::vector<const TensorInfo*>> ModelWeights::QkNormTensorsOf(Index layer,
                                                                             bool query) const {
  const LayerNames& names = options_.layer_names;
  const std::string name =
      absl::StrCat(options_.LayerPrefix(layer), query ? names.q_norm : names.k_norm);
  const Index heads = query ? options_.heads : options_.kv_heads;
  const Index dim = options_.head_dim;
  std::vector<const TensorInfo*> out;
  const auto add = [&](const std::string& tensor, const std::vector<Index>& shape) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* found, Find(tensor, shape));
    out.push_back(found);
    return absl::OkStatus();
  };
  switch (options_.qk_norm) {
    case QkNormTensors::kNone:
      break;
    case QkNormTensors::kHead:
      ATTNPRUNE_RETURN_IF_ERROR(add(absl::StrCat(name, ".weight"), {dim}));
      break;
    case QkNormTensors::kWhole:
      ATTNPRUNE_RETURN_IF_ERROR(add(absl::StrCat(name, ".weight"), {heads * dim}));
      break;
    case QkNormTensors::kMatrix:
      ATTNPRUNE_RETURN_IF_ERROR(add(absl::StrCat(name, ".weight"), {heads, dim}));
      break;
    case QkNormTensors::kEach:
      for (Index h = 0; h < heads; ++h) {
        ATTNPRUNE_RETURN_IF_ERROR(add(absl::StrCat(name, ".", h, ".weight"), {dim}));
      }
      break;
  }
  return out;
}

absl::StatusOr<const TensorInfo*> ModelWeights::QkNormBiasOf(Index layer, bool query) const {
  if (options_.qk_norm != QkNormTensors::kHead) return nullptr;
  const LayerNames& names = options_.layer_names;
  const std::string bias =
      absl::StrCat(options_.LayerPrefix(layer), query ? names.q_norm : names.k_norm, ".bias");
  if (!Has(bias)) return nullptr;
  return Find(bias, {options_.head_dim});
}

absl::StatusOr<OptionalNorm> ModelWeights::QueryNorm(Index layer) const {
  return QkNormOf(layer, /*query=*/true);
}

absl::StatusOr<OptionalNorm> ModelWeights::KeyNorm(Index layer) const {
  return QkNormOf(layer, /*query=*/false);
}

}  // namespace attnprune
