#include "core/judge/linear_error.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "core/kernels/blas.h"
#include "core/methods/linear_map.h"

namespace attnprune {
namespace {

constexpr Index kTokensPerShard = 256;
constexpr double kLeastResolved = 0.01;

// ||x w||_F^2, w laid out as a weight with inputs in rows or not.
double SquaredNormOfProduct(MatrixView x, MatrixView w, bool inputs_are_rows, ThreadPool& pool) {
  const Trans trans = inputs_are_rows ? Trans::kNo : Trans::kYes;
  const Index outputs = inputs_are_rows ? w.cols() : w.rows();
  std::vector<double> sums(static_cast<size_t>((x.rows() + kTokensPerShard - 1) / kTokensPerShard));
  pool.ParallelFor(static_cast<Index>(sums.size()), [&](Index i) {
    const Index first = i * kTokensPerShard;
    const MatrixView rows = x.Rows(first, std::min(kTokensPerShard, x.rows() - first));
    Matrix y(rows.rows(), outputs);
    Gemm(Trans::kNo, trans, 1.0f, rows, w, 0.0f, y);
    for (const float value : y.flat()) {
      sums[static_cast<size_t>(i)] += static_cast<double>(value) * static_cast<double>(value);
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

double LinearError::relative() const {
  if (dense == 0) return difference == 0 ? 0 : std::numeric_limits<double>::infinity();
  return difference / dense;
}

double SquaredNormOfOutputs(MatrixView x, const GramMatrix& gram, const NamedWeight& weight,
                            MatrixView w, ThreadPool& pool) {
  const GramMatrix moments = Gram(OutIn({weight.name, w, weight.inputs_are_rows}), pool);
  const auto rows = static_cast<size_t>(gram.size());
  double together = 0, apart = 0;
  for (size_t i = 0; i < rows; ++i) {
    const auto x_row = gram.flat().subspan(i * rows, rows);
    const auto w_row = moments.flat().subspan(i * rows, rows);
    together += std::inner_product(x_row.begin(), x_row.end(), w_row.begin(), 0.0);
    apart += x_row[i] * w_row[i];
  }
  // Not a number where moments overflow.
  return together >= kLeastResolved * apart
             ? together
             : SquaredNormOfProduct(x, w, weight.inputs_are_rows, pool);
}

}  // namespace attnprune
