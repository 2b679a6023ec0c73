// Alibi: a penalty on far keys in place of positions in the queries and keys.
//
// Source: Press et al., "Train Short, Test Long"; the two forms as in huggingface/transformers,
// modeling_bloom.py and modeling_falcon.py.
#ifndef ATTNPRUNE_CORE_KERNELS_ALIBI_H_
#define ATTNPRUNE_CORE_KERNELS_ALIBI_H_

#include <vector>

#include "core/tensor/matrix.h"

namespace attnprune {

enum class Alibi {
  kNone,
  kBloom,   // S = scale q k' + slope j for key j
  kFalcon,  // S = scale (q k' + slope j), slope and slope j rounded to bfloat16
};

// The slope of each head. With p the largest power of two that is at most `heads`: 2^(-8 (h + 1) /
// p) for h < p, then 2^(-4 (2 (h - p) + 1) / p). heads at least 1.
std::vector<double> AlibiSlopes(Index heads);

// What is added to the logits of each key, heads x keys; `keys` rounded up to whole vectors, as
// AttentionHead::key_bias wants it. Empty for kNone. Pure; callable from any thread.
Matrix AlibiBias(Alibi alibi, Index heads, Index keys, float scale);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ALIBI_H_
