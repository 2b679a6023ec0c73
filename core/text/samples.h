// The windows of a tokenised text that calibration and evaluation take, as SparseGPT's and Wanda's
// scripts choose them (datautils.py, lib/data.py, lib/eval.py).
#ifndef ATTNPRUNE_CORE_TEXT_SAMPLES_H_
#define ATTNPRUNE_CORE_TEXT_SAMPLES_H_

#include <cstdint>
#include <random>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace attnprune {

// Python's random.Random(seed), of which the scripts use randint alone: MT19937 seeded by
// init_by_array. The same numbers as CPython's. For one thread at a time.
class PythonRandom {
 public:
  explicit PythonRandom(uint64_t seed);

  uint32_t Next32() { return generator_(); }  // getrandbits(32)
  // randint(low, high): both ends count. low <= high < low + 2^32 - 1.
  int64_t RandInt(int64_t low, int64_t high);

 private:
  std::mt19937 generator_;
};

struct TokenWindows {
  int64_t length = 0;        // tokens of one window, >= 1
  std::vector<int32_t> ids;  // one window after the other

  int64_t count() const { return static_cast<int64_t>(ids.size()) / length; }
  absl::Span<const int32_t> window(int64_t index) const {
    return absl::MakeSpan(ids).subspan(static_cast<size_t>(index * length),
                                       static_cast<size_t>(length));
  }
};

struct SampleOptions {
  int64_t samples = 128;  // windows, >= 1
  int64_t length = 2048;  // tokens of each, >= 1
  uint64_t seed = 0;
};

// Calibration: window i begins at the i-th randint(0, T - length - 1) of T tokens; windows may
// overlap. INVALID_ARGUMENT names the figures: T < length + 1, T above 2^32, options out of range.
absl::StatusOr<TokenWindows> SampleWindows(absl::Span<const int32_t> tokens,
                                           const SampleOptions& options);

// Evaluation by "non-overlapping windows": the floor(T / length) windows from the start; the rest
// is dropped. INVALID_ARGUMENT names both figures: T < length, or length < 1.
absl::StatusOr<TokenWindows> ConsecutiveWindows(absl::Span<const int32_t> tokens, int64_t length);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_SAMPLES_H_
