// The attention loss in float64, slow and obvious: what the tests hold the solver to. Linked by
// tests only. Written from the paper's formulas (Definition 1.1, Definition C.1, Theorem 5.3,
// Section 7) and the families' options in huggingface/transformers, and from nothing in core but
// its option types and RopeFrequencies, which a test of its own holds to transformers' tables.
#ifndef ATTNPRUNE_TESTS_REFERENCE_ATTENTION_REFERENCE_H_
#define ATTNPRUNE_TESTS_REFERENCE_ATTENTION_REFERENCE_H_

#include <Eigen/Core>
#include <vector>

#include "absl/types/optional.h"
#include "core/problem/attention_mask.h"
#include "core/problem/problem.h"

namespace attnprune::reference {

using Dense = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXd;

// One attention layer and the batches it sees. A list of weights (masks, gradients) is in the order
// of `weights`.
struct AttentionProblem {
  // {w}, d x d, x -> x W: the fused problem. {w_q, w_k}, (out, in): projections.
  std::vector<Dense> weights;
  Vector b_q, b_k;  // size 0 for none
  Index heads = 1, kv_heads = 1;
  absl::optional<Rope> rope;
  absl::optional<QkNorm> qk_norm;
  double softcap = 0, clip_qkv = 0;  // 0: none
  Alibi alibi = Alibi::kNone;
  AttentionMask attention;
  absl::optional<double> scale;  // default 1 (fused), 1 / sqrt(head_dim) (projections)
  std::vector<Dense> batches;    // n_j x d

  bool fused() const { return weights.size() == 1; }
  Index head_dim() const { return weights[0].rows() / heads; }
  Index kv_head(Index head) const { return head / (heads / kv_heads); }
  double effective_scale() const;
};

// May query i attend to key j?
bool Allowed(const AttentionMask& mask, Index i, Index j);

// Softmax of each row over its allowed entries; the others are exactly 0.
Dense Softmax(const Dense& logits, const AttentionMask& mask);

// Rotary embedding of q (tokens x head_dim), token i at position i; kTransposed is what a gradient
// goes back by, and undoes kForward where the attention factor is 1.
enum class Rotation { kForward, kTransposed };
Dense Rotate(const Dense& q, const Rope& rope, Rotation direction);

// The queries of a layer or its keys; in the order of AttentionProblem::weights.
enum class Side { kQueries, kKeys };

// clip(x W' + b) of all heads, tokens x outputs.
Dense Clipped(const AttentionProblem& problem, Side side, const Dense& x,
              const std::vector<Dense>& weights);
// The norm of that, or itself without one.
Dense Normed(const AttentionProblem& problem, Side side, const Dense& clipped);
// Gradient in x W' + b from that in Normed's result.
Dense BackThroughNormAndClip(const AttentionProblem& problem, Side side, const Dense& clipped,
                             const Dense& gradient);

// R(norm(clip(x W' + b))) of one head, the identity in place of what the layer does not have.
Dense Project(const AttentionProblem& problem, Side side, const Dense& x,
              const std::vector<Dense>& weights, Index head);

// What alibi adds to the logits of a key, one entry a key.
Vector AlibiOf(const AttentionProblem& problem, Index head, Index keys);

// The derivative of the softcap, 1 - (s~ / c)^2, where `logits` are capped; 1 without one.
Dense SoftcapSlope(const AttentionProblem& problem, const Dense& logits);

// The logits s Q_h K_g' (s X W X' when fused) of one head on one batch, with alibi and softcap.
Dense Logits(const AttentionProblem& problem, const std::vector<Dense>& weights, const Dense& x,
             Index head);

// f of one head on one batch.
Dense Attention(const AttentionProblem& problem, const std::vector<Dense>& weights, const Dense& x,
                Index head);

// Which p1 of Definition C.1. The misprint is in some copies of Algorithm 1, line 13; it is here so
// that tests can see it rejected.
enum class P1 { kDefinition /* c o f~ */, kMisprint /* c o f */ };

// p = p1 - diag(p1 1) f~.
Dense BackwardThroughSoftmax(const Dense& f, const Dense& f_tilde, P1 p1);

// sum over batches and heads of 1/2 ||f~ - f||_F^2, f~ from the weights `pruned`.
double AttentionLoss(const AttentionProblem& problem, const std::vector<Dense>& pruned);

// Gradient of AttentionLoss in `pruned`.
std::vector<Dense> WeightGradients(const AttentionProblem& problem,
                                   const std::vector<Dense>& pruned, P1 p1 = P1::kDefinition);

// The whole objective L(M) = AttentionLoss(M o W) + lambda / 2 ||M||_F^2.
double Regularization(const std::vector<Dense>& masks, double lambda);
double TotalLoss(const AttentionProblem& problem, const std::vector<Dense>& masks, double lambda);
// W o dW + lambda M.
std::vector<Dense> MaskGradients(const AttentionProblem& problem, const std::vector<Dense>& masks,
                                 double lambda, P1 p1 = P1::kDefinition);

// M o W, entry by entry.
std::vector<Dense> Hadamard(const std::vector<Dense>& a, const std::vector<Dense>& b);

// sum over batches of ||f~ - f||_F^2 and of ||f||_F^2, one entry a head.
struct ErrorSums {
  std::vector<double> difference, dense;

  double relative() const;  // equation (1) over all heads
  double relative(Index head) const;
};
ErrorSums Errors(const AttentionProblem& problem, const std::vector<Dense>& pruned);

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_ATTENTION_REFERENCE_H_
