#include "core/problem/qk_norm.h"

namespace attnprune {
namespace {

RowNorm NormOf(const QkNorm& norm, const std::vector<float>& weight, const std::vector<float>& bias,
               Index head_dim) {
  return {.kind = norm.kind,
          .eps = norm.eps,
          .group = norm.group == QkNormGroup::kHead ? head_dim : 0,
          .weight = weight,
          .bias = bias};
}

}  // namespace

RowNorm QueryNorm(const QkNorm& norm, Index head_dim) {
  return NormOf(norm, norm.q_weight, norm.q_bias, head_dim);
}
RowNorm KeyNorm(const QkNorm& norm, Index head_dim) {
  return NormOf(norm, norm.k_weight, norm.k_bias, head_dim);
}

std::vector<float> TileNorm(absl::Span<const float> stored, Index outputs, double offset) {
  std::vector<float> tiled;
  if (stored.empty()) return tiled;
  for (size_t i = 0; i < static_cast<size_t>(outputs); ++i) {
    tiled.push_back(static_cast<float>(static_cast<double>(stored[i % stored.size()]) + offset));
  }
  return tiled;
}

}  // namespace attnprune
