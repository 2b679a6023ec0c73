// Fixed-width float vectors (GCC's and clang's vector extension), and exp on them: 16 lanes where a
// file is compiled for AVX-512, 8 elsewhere. Files of both kinds are linked into one program, so
// that each width has a namespace of its own.
//
// Every loop over a row runs in whole lanes over padded storage, so a value never depends on where
// in memory the row starts or how long it is.
#ifndef ATTNPRUNE_CORE_KERNELS_LANES_H_
#define ATTNPRUNE_CORE_KERNELS_LANES_H_

#include <cstdint>
#include <cstring>

#include "core/tensor/matrix.h"

#if defined(__AVX512F__)
#define ATTNPRUNE_LANES_NAMESPACE lanes16
#else
#define ATTNPRUNE_LANES_NAMESPACE lanes8
#endif

namespace attnprune {
inline namespace ATTNPRUNE_LANES_NAMESPACE {

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
inline Lanes Broadcast(float x) {
#if defined(__AVX512F__)
  return Lanes{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#else
  return Lanes{x, x, x, x, x, x, x, x};
#endif
}
// 0, 1, ... in the lanes.
inline IntLanes CountingLanes() {
  IntLanes v{};
  for (Index i = 0; i < kLanes; ++i) v[i] = static_cast<int32_t>(i);
  return v;
}
inline Lanes Max(Lanes a, Lanes b) { return a > b ? a : b; }

// The two halves of a vector put together by `combine`, and so on down to one number.
template <typename Combine>
inline float Reduce(Lanes v, Combine combine) {
#if defined(__AVX512F__)
  const auto eight = combine(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7),
                             __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
#else
  const Lanes eight = v;
#endif
  const auto four = combine(__builtin_shufflevector(eight, eight, 0, 1, 2, 3),
                            __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
  const auto two = combine(four, __builtin_shufflevector(four, four, 2, 3, 0, 1));
  const auto one = combine(two, __builtin_shufflevector(two, two, 1, 0, 3, 2));
  return one[0];
}

inline float SumLanes(Lanes v) {
  return Reduce(v, [](auto a, auto b) { return a + b; });
}
inline float MaxLanes(Lanes v) {
  return Reduce(v, [](auto a, auto b) { return a > b ? a : b; });
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

// tanh x within 3 ulp (2.5 over a seventh of all floats); odd to the bit; 1 and -1 beyond 20 and
// -20; NaN stays NaN.
//
// With z = -2 |x|: tanh |x| = -(e^z - 1) / (2 + (e^z - 1)). z = n ln 2 + r as in ExpNonPositive,
// and e^z - 1 = 2^n (e^r - 1) + (2^n - 1) loses no digits near 0, where n is 0.
inline Lanes Tanh(Lanes x) {
  constexpr float kRoundToInt = 12582912.0f, kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f, kFar = -40.0f;
  constexpr int32_t kSign = INT32_MIN;
  IntLanes bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const IntLanes sign = bits & kSign;
  bits |= kSign;
  Lanes z;
  std::memcpy(&z, &bits, sizeof(z));  // -|x|
  z = z * 2.0f;
  z = z < kFar ? Broadcast(kFar) : z;
  const Lanes biased = z * kLog2E + kRoundToInt;
  const Lanes n = biased - kRoundToInt;
  const Lanes r = (z - n * kLn2High) - n * kLn2Low;
  Lanes y = r * (1.0f / 5040) + (1.0f / 720);
  y = y * r + (1.0f / 120);
  y = y * r + (1.0f / 24);
  y = y * r + (1.0f / 6);
  y = y * r + 0.5f;
  y = y * (r * r) + r;
  IntLanes exponent;
  std::memcpy(&exponent, &biased, sizeof(exponent));
  exponent = (exponent + 127) << 23;
  Lanes power;
  std::memcpy(&power, &exponent, sizeof(power));
  const Lanes below = power * y + (power - 1.0f);  // e^z - 1
  const Lanes tanh = -below / (2.0f + below);
  std::memcpy(&bits, &tanh, sizeof(bits));
  bits = (bits & ~kSign) | sign;
  Lanes signed_tanh;
  std::memcpy(&signed_tanh, &bits, sizeof(signed_tanh));
  return signed_tanh;
}

}  // namespace ATTNPRUNE_LANES_NAMESPACE
}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_LANES_H_
