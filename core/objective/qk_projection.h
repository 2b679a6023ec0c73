// From a real layer's tokens to its queries and keys, and from a gradient in those back to one in
// the projections.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_QK_PROJECTION_H_
#define ATTNPRUNE_CORE_OBJECTIVE_QK_PROJECTION_H_

#include <vector>

#include "absl/types/optional.h"
#include "core/base/thread_pool.h"
#include "core/kernels/norm.h"
#include "core/kernels/rope.h"
#include "core/objective/chunks.h"
#include "core/problem/batches.h"
#include "core/problem/problem.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// q = R(norm(clip(X W_Q' + b))) and the same for k, of a chunk's tokens; each step but the product
// only where the layer has it. Not thread-safe, but it uses the pool's threads; the bits do not
// depend on their number.
class QkProjection {
 public:
  // `layer`, `batches` and `pool` must outlive it.
  QkProjection(const ProjectionWeights& layer, const Batches& batches, ThreadPool& pool);

  // Queries or keys, their gradient, or what Backward needs: tokens of a chunk x outputs.
  struct Pair {
    Matrix &q, &k;
  };

  // Writes the chunk's rows of `out` and, unless null, of `clipped`: the projections after the clip
  // and before the norm, where the layer has either.
  void Forward(const Chunk& chunk, MatrixView w_q, MatrixView w_k, Pair out, const Pair* clipped);

  // R' on one batch's rows of a gradient in queries or keys, in place; any whole heads of them.
  // From any thread.
  void TurnBack(Index batch, MutableMatrixView heads) const;

  // After TurnBack: from the gradient in what the rotation was given to that in X W' + b, in place.
  // clipped: as Forward left it for this chunk.
  void Backward(const Chunk& chunk, Pair clipped, Pair gradient);

  enum class Of { kQueries, kKeys };
  // L' M L, in place, of a symmetric M, head_dim x head_dim, of one token's query or key of a head;
  // L is the Jacobian of the head in X W' + b of the same head. clipped: the token's row as Forward
  // left it, null where the layer has neither a norm nor a clip. Of a norm over whole rows, what a
  // head does to the others through it is left out. From any thread.
  void PullBack(Of of, Index token, Index head, const float* clipped,
                MutableMatrixView moment) const;

 private:
  void Turn(Index first_token, float sign, MutableMatrixView heads) const;
  void Project(const Chunk& chunk, MatrixView w, const std::vector<float>& bias, Matrix& out);
  // Clip, norm and rotation of rows that begin at a token. clipped: empty if not wanted.
  void Finish(const RowNorm* norm, Index first_token, MutableMatrixView rows,
              MutableMatrixView clipped) const;
  void Back(const RowNorm* norm, MatrixView clipped, MutableMatrixView gradient) const;
  // What is before the rotation, of gradients in one head of a token, one a row.
  void HeadBack(const RowNorm* norm, Index head, MatrixView token,
                MutableMatrixView gradients) const;

  const ProjectionWeights& layer_;
  const Batches& batches_;
  ThreadPool& pool_;
  RopeTables rope_;                          // empty without rotary embedding
  std::vector<Index> positions_, batch_of_;  // of every token
  absl::optional<RowNorm> q_norm_, k_norm_;  // both or none
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_QK_PROJECTION_H_
