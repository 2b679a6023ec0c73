// The gradient of a loss on next tokens in the last layer's output: back through logits, head and
// final norm.
//
// The loss is the sum, not the mean, of -log p(label) over the tokens 0 ... n - 2 of each sequence
// of n, those that Forward::TokenLosses scores; p is the model's softmax. Labels are the next
// tokens of a text or, for the true Fisher matrix, drawn from p: Martens, "New Insights and
// Perspectives on the Natural Gradient Method", section 5.
//
// Both functions: x is the last layer's output, tokens x hidden_size, `gradient` of the same shape
// and no overlap gets the gradient, zeros where a sequence's last token is. In float32, by 4,096
// rows, 4,096 tokens of the vocabulary and 1,024 rows at a time: the vocabulary is passed twice for
// each 4,096 rows, with 3 products of rows x width x vocabulary. goes_on, unless null, is told the
// share that is done after each piece; where it returns false the answer is CANCELLED.
// CheckPredicts's errors. Not thread-safe: `forward` and its pool are used. The bits depend on the
// input and the CPU type only, not on the number of threads.
#ifndef ATTNPRUNE_CORE_MODEL_HEAD_BACKWARD_H_
#define ATTNPRUNE_CORE_MODEL_HEAD_BACKWARD_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/forward.h"
#include "core/model/tokens.h"
#include "core/tensor/matrix.h"

namespace attnprune {

using HeadProgress = std::function<bool(double share)>;

// Labels are the tokens' own next ones.
absl::Status TokenLossGradient(Forward& forward, const Tokens& tokens, MatrixView x,
                               MutableMatrixView gradient, const HeadProgress& goes_on = nullptr);

// What a label's draw depends on, beside p and the token's place in its sequence.
struct LabelDraws {
  uint64_t seed = 0;
  Index first_sequence = 0;  // the number of the first of `lengths`, where they are some of many
  // Rows of the gradient that are there already, from the beginning on: a number that group_done
  // was told of an earlier call. Their labels are -1.
  Index done = 0;
  std::function<void(Index rows)> group_done = nullptr;  // after each 4,096 rows: how many are
};

// Labels are drawn from p, by inversion of its distribution function. Returns them, one a token of
// all sequences; -1 where a sequence's last token is.
absl::StatusOr<std::vector<Index>> SampledLabelGradient(Forward& forward,
                                                        absl::Span<const Index> lengths,
                                                        const LabelDraws& draws, MatrixView x,
                                                        MutableMatrixView gradient,
                                                        const HeadProgress& goes_on = nullptr);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_HEAD_BACKWARD_H_
