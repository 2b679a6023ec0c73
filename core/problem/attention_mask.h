// Which keys a query may attend to.
#ifndef ATTNPRUNE_CORE_PROBLEM_ATTENTION_MASK_H_
#define ATTNPRUNE_CORE_PROBLEM_ATTENTION_MASK_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Every kind allows one contiguous, never empty range of keys per query, and both ends of the range
// grow with the query; the kernels rely on it.
struct AttentionMask {
  enum class Kind {
    kCausal,  // key j <= query i (Definition 3.1); the default
    kFull,    // every key
    kBlock,   // j <= i in the same block of `size` tokens (block-wise causal)
    kWindow,  // i - size < j <= i (sliding window of `size` tokens)
  };
  struct Range {
    Index begin, end;  // keys begin <= j < end
  };

  Kind kind = Kind::kCausal;
  Index size = 0;  // tokens, at least 1; for kBlock and kWindow only

  // Keys that query i of n tokens may attend to.
  Range Keys(Index i, Index n) const;
};

// "causal", "full", "block:B" or "window:B" with B >= 1; anything else is INVALID_ARGUMENT.
absl::StatusOr<AttentionMask> ParseAttentionMask(absl::string_view text);
std::string ToString(const AttentionMask& mask);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_ATTENTION_MASK_H_
