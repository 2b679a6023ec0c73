// AttentionObjective of a real layer: separate W_Q and W_K, heads, biases, rotary embedding
// (Section 7, made exact).
#ifndef ATTNPRUNE_CORE_OBJECTIVE_PROJECTION_OBJECTIVE_H_
#define ATTNPRUNE_CORE_OBJECTIVE_PROJECTION_OBJECTIVE_H_

#include <vector>

#include "absl/functional/function_ref.h"
#include "core/kernels/rope.h"
#include "core/objective/attention_objective.h"
#include "core/objective/dense_attention.h"

namespace attnprune {

// Q = R(X W_Q' + b), K = R(X W_K' + b) for all tokens; the attention kernel for each batch and
// head; dW = (R^-1 dQ)' X. The heads of a group share K, so one shard is a batch and a kv head.
class ProjectionObjective final : public AttentionObjective {
 public:
  ProjectionObjective(const Problem& problem, const Batches& batches, ThreadPool& pool);

  double LossAndGradient(absl::Span<const MatrixView> weights,
                         absl::Span<Matrix> gradients) override;
  AttentionError Error(absl::Span<const MatrixView> weights) override;
  double dense_norm_squared() const override { return dense_.TotalNorm(); }
  double SmallestLogAttention(absl::Span<const MatrixView> weights) override;

 private:
  // One head of one batch.
  struct Head {
    Index batch, head, kv_head;
    MatrixView q, k;  // tokens x head_dim
  };

  void Project(MatrixView w_q, MatrixView w_k);                    // q_ and k_
  void UnrotateGradients();                                        // R^-1 on d_q_ and d_k_
  void ForEachHead(absl::FunctionRef<double(const Head&)> value);  // into partials_
  void RotateRows(Index first, Index count, float sign, Matrix& q, Matrix& k) const;

  const ProjectionWeights& layer_;
  const Batches& batches_;
  ThreadPool& pool_;
  const float scale_;
  RopeTable rope_;                // empty without rotary embedding
  std::vector<Index> positions_;  // of every token in its batch
  DenseAttentionStore dense_;
  Matrix q_, k_, d_q_, d_k_;      // tokens x (heads * head_dim), tokens x (kv_heads * head_dim)
  std::vector<double> partials_;  // batches x heads
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_PROJECTION_OBJECTIVE_H_
