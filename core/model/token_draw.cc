#include "core/model/token_draw.h"

namespace attnprune {
namespace {

uint64_t Scramble(uint64_t z) {  // SplitMix64: Steele, Lea and Flood, 2014
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace

double UniformOfDraw(uint64_t seed, Index sequence, Index position) {
  const uint64_t of_sequence = Scramble(Scramble(seed) ^ static_cast<uint64_t>(sequence));
  const uint64_t bits = Scramble(of_sequence ^ static_cast<uint64_t>(position));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

void TokenDraw::Pass(const float* p, Index count, Index first, bool last_piece) {
  constexpr double kReached = 1 - 1e-5;
  const double bound = uniform * kReached;
  for (Index j = 0; j < count && token < 0; ++j) {
    reached += static_cast<double>(p[j]);
    if (reached > bound) token = first + j;
  }
  if (last_piece && token < 0) token = first + count - 1;
}

}  // namespace attnprune
