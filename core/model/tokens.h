// Sequences of token ids, and the files that hold them.
#ifndef ATTNPRUNE_CORE_MODEL_TOKENS_H_
#define ATTNPRUNE_CORE_MODEL_TOKENS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/io/tensor_source.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Sequences of token ids, one behind the other.
struct Tokens {
  std::vector<int64_t> ids;
  std::vector<Index> lengths;  // tokens of each, at least 1; their sum is ids.size()

  Index total() const { return static_cast<Index>(ids.size()); }
};

// How many of the sequences have `rows` tokens together; -1: none ends there.
Index SequencesBefore(absl::Span<const Index> lengths, Index rows);

// k rows of n ids, some of whose ends may be padding.
struct TokenRows {
  Tokens tokens;             // without padding; a row each
  Index width = 0;           // n
  std::vector<Index> first;  // the place of each row's first token: above 0 where padded before it
  bool padded = false;       // whether there was an attention_mask

  Index rows() const { return static_cast<Index>(first.size()); }
};

// The tokens of a row: places [first, first + count).
struct MaskedRow {
  Index first, count;
};

// An attention_mask of that shape (k, n): 1 for a token, 0 for padding. INVALID_ARGUMENT, naming
// file and tensor, unless each row's ones are consecutive and at least two.
absl::StatusOr<std::vector<MaskedRow>> ReadAttentionMask(const TensorInfo& mask,
                                                         const std::vector<Index>& shape);

// path: a .npy file of whole numbers (k, n), or "FILE.safetensors" or "FILE.safetensors:NAME" of
// any integer type; without NAME the tensor `tokens`, or `input_ids`. A row is a sequence; (n) is
// one. A tensor `attention_mask` of the same shape beside them is 1 for a token and 0 for padding,
// which is left out: each row's ones must be consecutive and at least two.
// INVALID_ARGUMENT or NOT_FOUND names the file, the tensor, the rule and the value.
absl::StatusOr<TokenRows> ReadTokenFile(const std::string& path);

// `ids` cut into rows of n tokens, which it must fill: no padding.
TokenRows RowsOfTokens(std::vector<int64_t> ids, Index n);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_TOKENS_H_
