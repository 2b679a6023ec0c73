// AttentionObjective of a real layer: separate W_Q and W_K, heads, biases, rotary embedding
// (Section 7, made exact).
#ifndef ATTNPRUNE_CORE_OBJECTIVE_PROJECTION_OBJECTIVE_H_
#define ATTNPRUNE_CORE_OBJECTIVE_PROJECTION_OBJECTIVE_H_

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/kernels/rope.h"
#include "core/objective/attention_objective.h"
#include "core/objective/chunks.h"
#include "core/objective/dense_attention.h"
#include "core/objective/sharded_gemm.h"
#include "core/objective/workspace.h"

namespace attnprune {

// Q = R(X W_Q' + b), K = R(X W_K' + b) for all tokens; the attention kernel for each batch and
// head; dW = (R^-1 dQ)' X. The heads of a group share K, so one shard is a batch and a kv head.
class ProjectionObjective final : public AttentionObjective {
 public:
  // dense: of these batches; filled, or to be filled by FillDense.
  ProjectionObjective(const Problem& problem, const Batches& batches, ThreadPool& pool,
                      const ObjectiveOptions& options, DenseAttentionView dense);

  double LossAndGradient(absl::Span<const MatrixView> weights,
                         absl::Span<Matrix> gradients) override;
  double dense_norm_squared() const override { return dense_.TotalNorm(); }
  std::unique_ptr<AttentionObjective> Subset(const Batches& batches,
                                             absl::Span<const Index> picked) const override;

 private:
  AttentionError DoError(absl::Span<const MatrixView> weights,
                         const ErrorOptions& options) override;
  void FillDense(const ShareDone& share_done) override;

  // One head of one batch, ready for the kernels.
  struct Work {
    Index batch, head, kv_head;
    Index row;  // the batch's first row in q_, k_, d_q_ and d_k_
    AttentionHead attention;
    DenseRows dense;
    float* scratch;
  };

  // q = R(X W_Q' + b), k = R(X W_K' + b).
  void Project(const Chunk& chunk, MatrixView w_q, MatrixView w_k, Matrix& q, Matrix& k);
  // R, or R^-1 where sign is -1, on heads of consecutive tokens.
  void Rotate(Index first_token, float sign, MutableMatrixView heads) const;
  // Calls value(work) for each head of each batch, on the pool's threads; the answers go to
  // partials_. The heads of a kv head come one after the other.
  void ForEachHead(const Chunk& chunk, PanelUse use, absl::FunctionRef<double(const Work&)> value);
  void KeepDense(const Chunk& chunk);  // copies q_ and k_ to dense_q_ and dense_k_
  // Before the dense attention of a chunk is used: makes dense_q_ and dense_k_ if they are not
  // kept.
  void PrepareDense(const Chunk& chunk);
  MatrixView HeadOfRows(const Matrix& rows, Index first, Index tokens, Index head) const;

  const Problem& problem_;
  const ProjectionWeights& layer_;
  const Batches& batches_;
  ThreadPool& pool_;
  const float scale_;
  RopeTable rope_;                  // empty without rotary embedding
  std::vector<Index> positions_;    // of every token in its batch
  const ObjectiveOptions options_;  // with a workspace
  const DenseAttentionView dense_;
  const std::vector<Chunk> chunks_;
  Matrix &q_, &k_, &d_q_, &d_k_;  // tokens of a chunk x (heads * head_dim), x (kv_heads * head_dim)
  Matrix &dense_q_, &dense_k_;    // the store's, or a chunk's; empty where f is kept
  const Index panel_floats_;      // of a kv head's keys
  ShardedTransposedGemm transposed_gemm_;
  std::vector<double> partials_, smallest_;  // batches x heads
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_PROJECTION_OBJECTIVE_H_
