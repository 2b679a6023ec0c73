// AttentionObjective of the fused problem: f = softmax(s X W X') (Definition 1.1).
#ifndef ATTNPRUNE_CORE_OBJECTIVE_FUSED_OBJECTIVE_H_
#define ATTNPRUNE_CORE_OBJECTIVE_FUSED_OBJECTIVE_H_

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "core/objective/attention_objective.h"
#include "core/objective/chunks.h"
#include "core/objective/dense_attention.h"
#include "core/objective/sharded_gemm.h"
#include "core/objective/workspace.h"

namespace attnprune {

// dL/dW = s X' p X (Theorem 5.3 without the mask), by Y = X W, the attention kernel with A = Y and
// B = X giving Z = s p X a batch, and one product X' Z over all tokens of a chunk.
class FusedObjective final : public AttentionObjective {
 public:
  // dense: of these batches; filled, or to be filled by FillDense.
  FusedObjective(const Problem& problem, const Batches& batches, ThreadPool& pool,
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

  // Some row blocks of one batch: what one shard works on.
  struct Part {
    Index batch, first_block, last_block;
  };
  struct ChunkParts {
    Chunk chunk;
    size_t first, count;  // in parts_
  };
  // One part, ready for the kernels.
  struct Work {
    size_t part;  // in parts_
    Index batch;
    Index row;  // the batch's first row in y_ and z_
    AttentionHead head;
    DenseRows dense;
    float* scratch;
  };

  void AddParts(const Chunk& chunk);
  void ComputeProducts(const Chunk& chunk, MatrixView w, MutableMatrixView y);  // y = X w
  // Calls value(work) for each part of a chunk, on the pool's threads; the answers go to partials_.
  void ForEachPart(const ChunkParts& chunk, PanelUse use,
                   absl::FunctionRef<double(const Work&)> value);
  // Before the dense attention of a chunk is used: makes dense_y_ if it is not kept.
  void PrepareDense(const Chunk& chunk);

  const Problem& problem_;
  const Batches& batches_;
  ThreadPool& pool_;
  const float scale_;
  const ObjectiveOptions options_;  // with a workspace
  const DenseAttentionView dense_;
  std::vector<ChunkParts> chunks_;
  std::vector<Part> parts_;
  const Matrix& dense_w_;
  Matrix &y_, &z_;   // tokens of a chunk x d
  Matrix& dense_y_;  // dense X W: the store's, or a chunk's; empty where f is kept
  Index panel_floats_ = 0;
  ShardedTransposedGemm transposed_gemm_;
  std::vector<double> partials_, smallest_;  // one a part
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_FUSED_OBJECTIVE_H_
