#include "core/kernels/alibi.h"

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/kernels/attention_kernels.h"

namespace attnprune {
namespace {

// To the nearest bfloat16, ties to even; finite numbers.
float RoundToBfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000;
  std::memcpy(&x, &bits, sizeof(bits));
  return x;
}

float BiasOfKey(Alibi alibi, double slope, Index key, float scale) {
  const auto position = static_cast<float>(key);
  if (alibi == Alibi::kBloom) return static_cast<float>(slope) * position;
  return RoundToBfloat16(RoundToBfloat16(static_cast<float>(slope)) * position) * scale;
}

}  // namespace

std::vector<double> AlibiSlopes(Index heads) {
  Index power = 1;
  while (power <= heads / 2) power *= 2;
  const auto p = static_cast<double>(power);
  std::vector<double> slopes;
  for (Index h = 0; h < heads; ++h) {
    const double exponent = h < power ? -8.0 * static_cast<double>(h + 1) / p
                                      : -4.0 * static_cast<double>(2 * (h - power) + 1) / p;
    slopes.push_back(std::exp2(exponent));
  }
  return slopes;
}

Matrix AlibiBias(Alibi alibi, Index heads, Index keys, float scale) {
  if (alibi == Alibi::kNone) return {};
  const Index padded = (keys + kAttentionPadding - 1) / kAttentionPadding * kAttentionPadding;
  Matrix bias(heads, padded);
  const std::vector<double> slopes = AlibiSlopes(heads);
  for (Index h = 0; h < heads; ++h) {
    for (Index j = 0; j < keys; ++j) {
      bias(h, j) = BiasOfKey(alibi, slopes[static_cast<size_t>(h)], j, scale);
    }
  }
  return bias;
}

}  // namespace attnprune
