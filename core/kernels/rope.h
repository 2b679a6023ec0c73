// Rotary position embedding of projected queries and keys, with the scalings of every family.
//
// Source: Su et al., "RoFormer"; the scalings as in huggingface/transformers,
// modeling_rope_utils.py. Plain functions and immutable tables: callable from any thread.
#ifndef ATTNPRUNE_CORE_KERNELS_ROPE_H_
#define ATTNPRUNE_CORE_KERNELS_ROPE_H_

#include <map>
#include <vector>

#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace attnprune {

enum class RopeLayout {
  kRotateHalf,   // pairs (i, i + dim / 2): Hugging Face Llama
  kInterleaved,  // pairs (2 i, 2 i + 1): the original Llama code, GPT-J, Cohere
};

// How the inverse frequencies inv_i = theta^(-2 i / dim) are changed to reach longer contexts.
// F = factor, L = max_positions, L0 = original_max_positions, n = tokens of the sequence.
enum class RopeScaling {
  kDefault,   // inv
  kLinear,    // inv / F
  kDynamic,   // theta <- theta (F max(n, L) / L - (F - 1))^(dim / (dim - 2))
  kLlama3,    // inv / F for long waves, inv for short ones, a blend between
  kYarn,      // inv / F for late pairs, inv for early ones, a blend between
  kLongrope,  // inv_i / short_factor_i, or / long_factor_i where n > L0
};

// One layer's rotary embedding. Ranges are checked by Validate (core/problem/problem.h).
struct Rope {
  double theta = 10000.0;  // base of the frequencies, above 0
  RopeLayout layout = RopeLayout::kRotateHalf;
  Index dim = 0;  // features of a head that turn, its first; even, up to head_dim; 0: head_dim
  RopeScaling scaling = RopeScaling::kDefault;
  double factor = 1;                 // F, at least 1; linear, dynamic, llama3, yarn
  Index original_max_positions = 0;  // L0, tokens, at least 1; llama3, yarn, longrope
  Index max_positions = 0;           // L, tokens, at least 1; dynamic
  double low_freq_factor = 1;        // turns over L0, above 0; llama3
  double high_freq_factor = 4;       // turns over L0, above low_freq_factor; llama3
  double beta_fast = 32;             // turns over L0, at least beta_slow; yarn
  double beta_slow = 1;              // turns over L0, above 0; yarn
  bool truncate = true;              // whether the bounds of yarn's blend are whole pairs
  std::vector<double> short_factor;  // dim / 2 entries above 0; longrope
  std::vector<double> long_factor;   // the same
  double attention_factor = 1;       // on cos and sin, above 0: logits get its square
};

// Features of a head that turn.
inline Index TurnedFeatures(const Rope& rope, Index head_dim) {
  return rope.dim > 0 ? rope.dim : head_dim;
}

// The inverse frequencies of a sequence of `length` tokens, TurnedFeatures(rope, head_dim) / 2 of
// them; the angle of pair i at position t is t times the i-th. For a valid rope; head_dim is read
// only where rope.dim is 0.
std::vector<double> RopeFrequencies(const Rope& rope, Index head_dim, Index length);

// attention_factor times cos and sin of position * frequency, positions x frequencies each.
struct RopeTable {
  Matrix cos, sin;
  bool interleaved = false;  // pairs (2 i, 2 i + 1); else (i, i + frequencies)

  bool empty() const { return cos.empty(); }
};

// Angles are computed in float64.
RopeTable MakeRopeTable(absl::Span<const double> frequencies, double attention_factor,
                        Index positions, bool interleaved);

// The tables for sequences of some lengths: one for all whose frequencies are the same.
class RopeTables {
 public:
  RopeTables() = default;
  // `rope` is valid for head_dim; lengths in tokens.
  RopeTables(const Rope& rope, Index head_dim, absl::Span<const Index> lengths);

  // Of a sequence of `length` tokens, one of the lengths given.
  const RopeTable& of(Index length) const { return *by_length_.at(length); }

 private:
  std::map<std::vector<double>, RopeTable> by_frequencies_;  // nodes do not move
  std::map<Index, const RopeTable*> by_length_;
};

// Turns heads of head_dim features that lie side by side, in place; row t is the token at
// positions[t], below table.cos.rows(). Features of a head behind those that turn stay as they are.
// `sign` is 1 for R and -1 for its transpose R', the attention factor included: what gradients
// need. R' is the inverse of R where that factor is 1.
void Rotate(const RopeTable& table, Index head_dim, const Index* positions, float sign,
            MutableMatrixView heads);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ROPE_H_
