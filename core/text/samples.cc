#include "core/text/samples.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

#include "core/base/status_macros.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 32;

// MT19937's init_by_array (Matsumoto and Nishimura) in the place of a std::seed_seq: its state is
// the generator's, word by word. The key is the seed in 32-bit words, the lowest first.
class InitByArray {
 public:
  using result_type = uint32_t;

  explicit InitByArray(uint64_t seed)
      : key_({static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}),
        key_length_(key_[1] == 0 ? 1 : 2) {}

  template <typename Iterator>
  void generate(Iterator begin, Iterator end) {
    std::copy_n(State().begin(), end - begin, begin);
  }

 private:
  static constexpr uint32_t kWords = std::mt19937::state_size;
  using Words = std::array<uint32_t, kWords>;

  static uint32_t Scrambled(uint32_t word) { return word ^ (word >> 30); }

  static Words InitialState() {
    Words state;
    state[0] = 19650218u;
    for (uint32_t i = 1; i < kWords; ++i) {
      state[i] = 1812433253u * Scrambled(state[i - 1]) + i;
    }
    return state;
  }

  // The place after i; the last word is also the one before the first.
  static uint32_t Following(uint32_t i, Words* state) {
    if (i + 1 < kWords) return i + 1;
    state->front() = state->back();
    return 1;
  }

  Words State() const {
    Words state = InitialState();
    uint32_t i = 1;
    for (uint32_t step = 0; step < kWords; ++step) {
      const uint32_t j = step % key_length_;
      state[i] = (state[i] ^ (Scrambled(state[i - 1]) * 1664525u)) + key_[j] + j;
      i = Following(i, &state);
    }
    for (uint32_t step = 0; step + 1 < kWords; ++step) {
      state[i] = (state[i] ^ (Scrambled(state[i - 1]) * 1566083941u)) - i;
      i = Following(i, &state);
    }
    state[0] = 0x80000000u;
    return state;
  }

  const std::array<uint32_t, 2> key_;
  const uint32_t key_length_;
};

std::mt19937 SeededAsPython(uint64_t seed) {
  InitByArray words(seed);
  return std::mt19937(words);
}

absl::Status CheckAtLeastOne(const char* field, int64_t value) {
  if (value >= 1) return absl::OkStatus();
  return Refuse(field, " must be at least 1, got ", value);
}

void AppendWindow(absl::Span<const int32_t> tokens, int64_t start, TokenWindows* windows) {
  const auto begin = tokens.begin() + start;
  windows->ids.insert(windows->ids.end(), begin, begin + windows->length);
}

}  // namespace

PythonRandom::PythonRandom(uint64_t seed) : generator_(SeededAsPython(seed)) {}

int64_t PythonRandom::RandInt(int64_t low, int64_t high) {
  const auto choices = static_cast<uint64_t>(high - low) + 1;
  const int unused = 32 - std::bit_width(choices);
  uint32_t drawn;
  do {
    drawn = Next32() >> unused;
  } while (drawn >= choices);
  return low + drawn;
}

absl::StatusOr<TokenWindows> SampleWindows(absl::Span<const int32_t> tokens,
                                           const SampleOptions& options) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckAtLeastOne("samples", options.samples));
  ATTNPRUNE_RETURN_IF_ERROR(CheckAtLeastOne("length", options.length));
  const auto count = static_cast<int64_t>(tokens.size());
  if (count <= options.length) {
    return Refuse("the text must have more tokens than a window of ", options.length, ", got ",
                  count);
  }
  if (count > kMostTokens) {
    return Refuse("the text must have at most ", kMostTokens, " tokens, got ", count);
  }
  TokenWindows windows{.length = options.length};
  PythonRandom random(options.seed);
  for (int64_t i = 0; i < options.samples; ++i) {
    AppendWindow(tokens, random.RandInt(0, count - options.length - 1), &windows);
  }
  return windows;
}

absl::StatusOr<TokenWindows> ConsecutiveWindows(absl::Span<const int32_t> tokens, int64_t length) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckAtLeastOne("length", length));
  const auto count = static_cast<int64_t>(tokens.size());
  if (count < length) {
    return Refuse("the text must have at least the tokens of one window of ", length, ", got ",
                  count);
  }
  TokenWindows windows{.length = length};
  for (int64_t start = 0; start + length <= count; start += length) {
    AppendWindow(tokens, start, &windows);
  }
  return windows;
}

}  // namespace attnprune
