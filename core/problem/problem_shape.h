// What is to be pruned, without its data: enough to check it by, and to tell what solving it needs.
#ifndef ATTNPRUNE_CORE_PROBLEM_PROBLEM_SHAPE_H_
#define ATTNPRUNE_CORE_PROBLEM_PROBLEM_SHAPE_H_

#include <variant>
#include <vector>

#include "absl/types/optional.h"
#include "core/problem/attention_mask.h"
#include "core/problem/problem.h"
#include "core/problem/sparsity.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct MatrixShape {
  Index rows = 0, cols = 0;
  bool empty() const { return rows < 1 || cols < 1; }
  bool operator==(const MatrixShape&) const = default;
};

// Of FusedWeights.
struct FusedShape {
  MatrixShape w;
  MatrixShape w_q, w_k;  // empty without factors
  bool has_factors() const { return !w_q.empty() || !w_k.empty(); }
};

// Of QkNorm; entries of its vectors, 0 for those that are empty.
struct QkNormShape {
  NormKind kind = NormKind::kRms;
  QkNormGroup group = QkNormGroup::kHead;
  double eps = 1e-6;
  Index q_weight = 0, k_weight = 0, q_bias = 0, k_bias = 0;
};

// Of ProjectionWeights.
struct ProjectionShape {
  MatrixShape w_q, w_k;
  Index b_q = 0, b_k = 0;  // entries; 0: no bias
  Index heads = 1, kv_heads = 1;
  absl::optional<Rope> rope;
  absl::optional<QkNormShape> qk_norm;
  double softcap = 0;
  double clip_qkv = 0;
  Alibi alibi = Alibi::kNone;
};

// Batches of one length.
struct BatchGroup {
  Index batches = 0, length = 0;  // length: tokens of each
  Index features = 0;
};

struct ProblemShape {
  std::variant<FusedShape, ProjectionShape> weights;
  AttentionMask attention;
  absl::optional<double> scale;
  Sparsity sparsity;
  std::vector<BatchGroup> calibration, held_out;
  // Fraction of the calibration batches that is to be held out, where `held_out` is empty; in [0,
  // 1).
  double held_out_fraction = 0;

  bool fused() const { return std::holds_alternative<FusedShape>(weights); }

  // Of a shape that is valid:
  Index features() const;         // d
  Index outputs() const;          // rows of all projections; d when fused
  Index heads() const;            // query heads; 1 when fused
  Index head_dim() const;         // d when fused
  bool has_norm_or_clip() const;  // ProjectionWeights::has_norm_or_clip; false when fused
  bool has_softcap() const;       // false when fused
};

ProblemShape ShapeOf(const Problem& problem);

// A set of batches in figures. Real numbers, so that they can be of a fraction, and do not
// overflow.
struct DataSize {
  double batches = 0;
  double tokens = 0;
  double longest = 0;  // tokens
  double allowed = 0;  // entries of all attention matrices that the mask allows, of one head
};

// With the fraction that is held out already taken from the one and given to the other.
DataSize CalibrationSize(const ProblemShape& shape);
DataSize HeldOutSize(const ProblemShape& shape);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_PROBLEM_SHAPE_H_
