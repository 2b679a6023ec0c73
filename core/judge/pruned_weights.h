// The attention weights that a result stands for.
#ifndef ATTNPRUNE_CORE_JUDGE_PRUNED_WEIGHTS_H_
#define ATTNPRUNE_CORE_JUDGE_PRUNED_WEIGHTS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/methods/method.h"
#include "core/problem/problem.h"

namespace attnprune {

// The dense matrices that `result` pruned, in its order: the attention weights, or a fused
// problem's factors. INVALID_ARGUMENT naming `result` unless names and shapes agree, the weights
// are finite and 0 where the mask prunes, and real-valued masks, if any, are of the attention
// weights.
absl::StatusOr<std::vector<NamedWeight>> DenseMatrices(const Problem& problem,
                                                       const PruneResult& result);

// The fused weight of a result that pruned its factors; empty for others.
Matrix ProductOfFactors(const Problem& problem, const PruneResult& result);

// The pruned matrices in the order of AttentionWeights(); `product` of pruned factors takes the
// place of a fused W. Views of both arguments. `result` must have passed DenseMatrices.
std::vector<MatrixView> PrunedAttentionWeights(const PruneResult& result, const Matrix& product);

// W o M with the real-valued masks; empty if the result has none.
std::vector<Matrix> SoftAttentionWeights(const Problem& problem, const PruneResult& result);

// As PrunedAttentionWeights, but of the dense weights under the result's masks; empty if those are
// what the result holds, no kept weight having moved.
std::vector<Matrix> MaskedAttentionWeights(const Problem& problem, const PruneResult& result);

// Views of all of them.
std::vector<MatrixView> Views(const std::vector<Matrix>& matrices);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_JUDGE_PRUNED_WEIGHTS_H_
