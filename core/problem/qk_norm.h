// The norm of projected queries and keys that some families have before their rotary embedding.
#ifndef ATTNPRUNE_CORE_PROBLEM_QK_NORM_H_
#define ATTNPRUNE_CORE_PROBLEM_QK_NORM_H_

#include <vector>

#include "absl/types/span.h"
#include "core/kernels/norm.h"
#include "core/tensor/matrix.h"

namespace attnprune {

enum class QkNormGroup {
  kHead,   // each head of a token alone
  kWhole,  // all heads of a token together
};

// core/kernels/norm.h on queries and on keys. Its weights are inputs, as biases are: never pruned.
struct QkNorm {
  NormKind kind = NormKind::kRms;
  QkNormGroup group = QkNormGroup::kHead;
  double eps = 1e-6;            // above 0
  std::vector<float> q_weight;  // heads * head_dim; where all heads share one, repeated for each
  std::vector<float> k_weight;  // kv_heads * head_dim, the same
  std::vector<float> q_bias;    // heads * head_dim, or empty for none
  std::vector<float> k_bias;    // kv_heads * head_dim, or empty for none
};

// What is done to the queries of a token, and to its keys. Valid as long as `norm`.
RowNorm QueryNorm(const QkNorm& norm, Index head_dim);
RowNorm KeyNorm(const QkNorm& norm, Index head_dim);

// A stored weight or bias as QkNorm wants it: `outputs` entries, the stored ones over and over,
// each with `offset` added (1 for families that store w for 1 + w). outputs is a multiple of their
// number; none give none.
std::vector<float> TileNorm(absl::Span<const float> stored, Index outputs, double offset = 0);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_QK_NORM_H_
