#include "core/judge/linear_error.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/kernels/blas.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

constexpr Index kTokensPerShard = 256;

// ||x w||_F^2, w laid out as `weight`.
double SquaredNormOfProduct(MatrixView x, const NamedWeight& weight, MatrixView w) {
  const Trans trans = weight.inputs_are_rows ? Trans::kNo : Trans::kYes;
  Matrix y(x.rows(), weight.inputs_are_rows ? w.cols() : w.rows());
  Gemm(Trans::kNo, trans, 1.0f, x, w, 0.0f, y);
  double sum = 0;
  for (float value : y.flat()) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum;
}

}  // namespace

double LinearError::relative() const {
  if (dense == 0) return difference == 0 ? 0 : std::numeric_limits<double>::infinity();
  return difference / dense;
}

LinearError ComputeLinearError(MatrixView x, const NamedWeight& weight, MatrixView pruned,
                               ThreadPool& pool) {
  Matrix removed = Matrix::CopyFrom(weight.dense);
  ArrayOf(removed) -= ArrayOf(pruned);
  const Index shards = (x.rows() + kTokensPerShard - 1) / kTokensPerShard;
  std::vector<LinearError> partials(static_cast<size_t>(shards));
  pool.ParallelFor(shards, [&](Index i) {
    const Index first = i * kTokensPerShard;
    const MatrixView rows = x.Rows(first, std::min(kTokensPerShard, x.rows() - first));
    partials[static_cast<size_t>(i)] = {SquaredNormOfProduct(rows, weight, removed),
                                        SquaredNormOfProduct(rows, weight, weight.dense)};
  });
  LinearError total;
  for (const LinearError& partial : partials) {
    total.difference += partial.difference;
    total.dense += partial.dense;
  }
  return total;
}

}  // namespace attnprune
