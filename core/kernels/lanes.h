// Fixed-width float vectors (GCC's and clang's vector extension), and exp on them.
//
// Every loop over a row runs in whole lanes over padded storage, so a value never depends on where
// in memory the row starts or how long it is.
#ifndef ATTNPRUNE_CORE_KERNELS_LANES_H_
#define ATTNPRUNE_CORE_KERNELS_LANES_H_

#include <cstdint>
#include <cstring>

#include "core/tensor/matrix.h"

namespace attnprune {

#if defined(__AVX512F__)
inline constexpr Index kLanes = 16;
#else
inline constexpr Index kLanes = 8;
#endif

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IntLanes __attribute__((vector_size(kLanes * sizeof(float))));

// n rounded up to a multiple of kLanes.
constexpr Index PadToLanes(Index n) { return (n + kLanes - 1) / kLanes * kLanes; }
constexpr Index FloorToLanes(Index n) { return n / kLanes * kLanes; }

inline Lanes LoadLanes(const float* p) {
  Lanes v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void StoreLanes(float* p, Lanes v) { std::memcpy(p, &v, sizeof(v)); }
inline Lanes Broadcast(float x) { return Lanes{} + x; }
inline Lanes Max(Lanes a, Lanes b) { return a > b ? a : b; }

inline float SumLanes(Lanes v) {
  float sum = 0;
  for (Index i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}
inline float MaxLanes(Lanes v) {
  float max = v[0];
  for (Index i = 1; i < kLanes; ++i) max = v[i] > max ? v[i] : max;
  return max;
}

// e^x for x <= 0, within 1.25 ulp (over every float from -87 to 0: 0.94 with fused multiply-add,
// 1.22 without); exactly 1 at 0; cut to exactly 0 below -87; NaN stays NaN.
//
// x = n ln 2 + r with |r| <= ln 2 / 2; Taylor's series of e^r to degree 7 leaves
// 0.35^8 / 8! = 6e-9 of 1.
inline Lanes ExpNonPositive(Lanes x) {
  constexpr float kRoundToInt = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const Lanes biased = x * kLog2E + kRoundToInt;
  const Lanes n = biased - kRoundToInt;
  const Lanes r = (x - n * kLn2High) - n * kLn2Low;
  Lanes y = r * (1.0f / 5040) + (1.0f / 720);
  y = y * r + (1.0f / 120);
  y = y * r + (1.0f / 24);
  y = y * r + (1.0f / 6);
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  IntLanes exponent;
  std::memcpy(&exponent, &biased, sizeof(exponent));
  exponent = (exponent + 127) << 23;  // the bits of 1.5 * 2^23 leave the word on the left
  Lanes power;
  std::memcpy(&power, &exponent, sizeof(power));
  return x < -87.0f ? Lanes{} : y * power;
}

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_LANES_H_
