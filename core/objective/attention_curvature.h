// The Gauss-Newton matrix of the attention loss in each head's weights, as a Kronecker product
// (K-FAC: Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate
// Curvature").
//
// With M_i that of token i in its query X_i W' + b of one head (head_moments.h, pulled back through
// rotation, norm and clip):  sum_i M_i (x) x_i x_i'  ~  B (x) A / tr B  with  B = sum_i M_i,
// A = sum_i tr(M_i) x_i x_i'. The same of keys, whose M_i is the sum over the heads that share it.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_CURVATURE_H_
#define ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_CURVATURE_H_

#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/objective/head_moments.h"
#include "core/objective/qk_projection.h"
#include "core/problem/attention_mask.h"
#include "core/problem/batches.h"
#include "core/problem/problem.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct HeadCurvature {
  GramMatrix inputs;   // A, d x d
  GramMatrix outputs;  // B, head_dim x head_dim
};

struct LayerCurvature {
  // No batches: zeros.
  explicit LayerCurvature(const ProjectionWeights& layer);

  // One a head; one a kv head, or none where nobody asks.
  std::vector<HeadCurvature> queries, keys;
};

// Not thread-safe, but it uses the pool's threads; the bits do not depend on their number.
class AttentionCurvature {
 public:
  // All must outlive it. layer: its options decide, not its weights.
  AttentionCurvature(const ProjectionWeights& layer, const AttentionMask& mask, float scale,
                     const Batches& batches, ThreadPool& pool);

  // Adds the sums over the batches at these weights. Not finite where a logit is not.
  void Add(MatrixView w_q, MatrixView w_k, LayerCurvature& sum);

 private:
  using Of = QkProjection::Of;

  void AddBatch(Index batch, LayerCurvature& sum);
  // Adds sum_i M_i of a head's queries, or of a head's keys, to `outputs` and the traces of M_i to
  // `traces`, one a token.
  void AddMoments(Of of, Index batch, Index head, GramMatrix& outputs, float* traces);
  void AddInputs(MatrixView x, const float* traces, GramMatrix& inputs);

  const ProjectionWeights& layer_;
  const AttentionMask& mask_;
  const Batches& batches_;
  ThreadPool& pool_;
  const Matrix alibi_;
  QkProjection projection_;
  HeadMoments moments_;
  Matrix q_, k_, clipped_q_, clipped_k_;  // tokens of the longest batch x outputs
  Matrix q_traces_, k_traces_;            // heads, kv heads x tokens
  Matrix scaled_;                         // sqrt(tr M_i) x_i
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_CURVATURE_H_
