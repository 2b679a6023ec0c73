// How far a model's next-token distributions are from another's, and the gradient of that: what
// distillation makes small.
//
// Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), at
// temperature 1.
#ifndef ATTNPRUNE_CORE_MODEL_HEAD_DIVERGENCE_H_
#define ATTNPRUNE_CORE_MODEL_HEAD_DIVERGENCE_H_

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/model/forward.h"
#include "core/model/head_backward.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// The sum over rows of KL(p || q), in nats: p and q are the softmax of the logits that the model's
// head makes of `dense` and of `x`, two last layers' outputs, tokens x hidden_size. gradient:
// unless nullopt it gets that of the sum in x, whose shape it has, without overlap. In float32, by
// 4,096 rows, 4,096 tokens of the vocabulary and 1,024 rows at a time: the vocabulary is passed
// twice for each 4,096 rows, with 4 products of rows x width x vocabulary, 5 with the gradient.
// Errors, goes_on, threads and bits: as head_backward.h.
absl::StatusOr<double> LogitDivergence(Forward& forward, MatrixView dense, MatrixView x,
                                       const absl::optional<MutableMatrixView>& gradient,
                                       const HeadProgress& goes_on = nullptr);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_HEAD_DIVERGENCE_H_
