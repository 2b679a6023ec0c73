#include "core/sequential/target.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "core/kernels/blas.h"

namespace attnprune {
namespace {

constexpr Index kRowsPerShard = 64;

// Z - X as the moments see it: X'Z - X'X.
Matrix Change(const GramMatrix& moments, const GramMatrix& cross) {
  const Index d = moments.size();
  Matrix change(d, d);
  for (Index i = 0; i < d; ++i) {
    for (Index j = 0; j < d; ++j) change(i, j) = static_cast<float>(cross(i, j) - moments(i, j));
  }
  return change;
}

}  // namespace

absl::StatusOr<Matrix> TargetWeights(MatrixView w, LinearInputs& inputs, const GramMatrix& cross,
                                     double share, ThreadPool& pool) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const SparseGptInputs* const factor,
                             inputs.SparseGpt(kTargetDamping, pool));
  const Matrix change = Change(inputs.moments(), cross);
  Matrix target = Matrix::CopyFrom(w);
  pool.ParallelFor((w.rows() + kRowsPerShard - 1) / kRowsPerShard, [&](Index shard) {
    const Index first = shard * kRowsPerShard;
    const Index rows = std::min(kRowsPerShard, w.rows() - first);
    Matrix moved(rows, w.cols()), solved(rows, w.cols());
    Gemm(Trans::kNo, Trans::kYes, 1.0f, w.Rows(first, rows), change, 0.0f, moved);
    Gemm(Trans::kNo, Trans::kYes, 1.0f, moved, factor->u, 0.0f, solved);
    Gemm(Trans::kNo, Trans::kNo, static_cast<float>(share), solved, factor->u, 1.0f,
         MutableMatrixView(target).Rows(first, rows));
  });
  return target;
}

}  // namespace attnprune
