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
  if (!IsRms(options_.norm) && FindOrNull(bias) != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(norm.bias, Vector(bias, d));
  }
  return norm;
}

// Of queries or keys: one entry a feature of all heads.
absl::StatusOr<std::vector<float>> ModelWeights::QkNormWeight(const std::string& name,
                                                              Index heads) const {
  const Index dim = options_.head_dim;
  const std::string weight = absl::StrCat(name, ".weight");
  switch (options_.qk_norm) {
    case QkNormTensors::kWhole:
      return Vector(weight, heads * dim);
    case QkNormTensors::kMatrix: {
      ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(weight, {heads, dim}));
      ATTNPRUNE_ASSIGN_OR_RETURN(const Matrix rows, ToMatrix(*tensor));
      return std::vector<float>(rows.flat().begin(), rows.flat().end());
    }
    case QkNormTensors::kEach: {
      std::vector<float> all;
      for (Index h = 0; h < heads; ++h) {
        ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> one,
                                   Vector(absl::StrCat(name, ".", h, ".weight"), dim));
        all.insert(all.end(), one.begin(), one.end());
      }
      return all;
    }
    case QkNormTensors::kHead:
    case QkNormTensors::kNone:
      break;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> one, Vector(weight, dim));
  return Tile(one, heads);
}

absl::StatusOr<OptionalNorm> ModelWeights::QkNormOf(Index layer, const std::string& suffix,
                                                    Index heads) const {
  if (options_.qk_norm == QkNormTensors::kNone) return absl::nullopt;
  const std::string name = absl::StrCat(options_.LayerPrefix(layer), suffix);
  NormWeights norm;
  norm.kind = IsRms(options_.norm) ? NormKind::kRms : NormKind::kLayer;
  norm.eps = options_.norm_eps;
  norm.group = options_.qk_norm == QkNormTensors::kWhole ? 0 : options_.head_dim;
  ATTNPRUNE_ASSIGN_OR_RETURN(norm.weight, QkNormWeight(name, heads));
  AddOne(options_.norm, norm.weight);
  const std::string bias = absl::StrCat(name, ".bias");
  if (options_.qk_norm == QkNormTensors::kHead && FindOrNull(bias) != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> one, Vector(bias, options_.head_dim));
    norm.bias = Tile(one, heads);
  }
  return norm;
}

absl::StatusOr<OptionalNorm> ModelWeights::QueryNorm(Index layer) const {
  return QkNormOf(layer, options_.layer_names.q_norm, options_.heads);
}

absl::StatusOr<OptionalNorm> ModelWeights::KeyNorm(Index layer) const {
  return QkNormOf(layer, options_.layer_names.k_norm, options_.kv_heads);
}

}  // namespace attnprune
