#include "core/judge/linear_error.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/sum.h"
#include "core/kernels/blas.h"
#include "core/methods/linear_map.h"

namespace attnprune {
namespace {

constexpr Index kTokensPerShard = 256, kOutputsPerShard = 256;
constexpr Index kInputsPerPanel = 256;
constexpr double kLeastResolved = 0.01;

Index ShardsOf(Index size, Index shard) { return (size + shard - 1) / shard; }

// W - V, or W: inputs x `count` outputs from `first` on.
Matrix InOut(const NamedWeight& weight, const absl::optional<MatrixView>& less, Index first,
             Index count) {
  Matrix out(Inputs(weight), count);
  const auto at = [&](MatrixView w, Index i, Index j) {
    return weight.inputs_are_rows ? w(i, first + j) : w(first + j, i);
  };
  for (Index i = 0; i < out.rows(); ++i) {
    for (Index j = 0; j < count; ++j) out(i, j) = at(weight.dense, i, j);
  }
  if (!less.has_value()) return out;
  for (Index i = 0; i < out.rows(); ++i) {
    for (Index j = 0; j < count; ++j) out(i, j) -= at(*less, i, j);
  }
  return out;
}

// Rows [first, first + panel.rows()) of the moments, from their diagonal on.
void FillPanel(const GramMatrix& gram, Index first, MutableMatrixView panel) {
  for (Index i = 0; i < panel.rows(); ++i) {
    for (Index j = 0; j < panel.cols(); ++j) {
      panel(i, j) = static_cast<float>(gram(first + i, first + j));
    }
  }
}

// <X'X, W W'>, and what its diagonal adds to that.
struct Moments {
  double together = 0, apart = 0;
};

// By the upper triangle, a panel of inputs at a time. whole: inputs x outputs.
Moments MomentsOf(const GramMatrix& gram, const Matrix& whole) {
  const MatrixView w = whole;
  Moments moments;
  for (Index first = 0; first < gram.size(); first += kInputsPerPanel) {
    const Index size = std::min(kInputsPerPanel, gram.size() - first), rest = gram.size() - first;
    Matrix panel(size, rest), product(rest, w.cols());
    FillPanel(gram, first, panel);
    const MatrixView some = w.Rows(first, size);
    Gemm(Trans::kYes, Trans::kNo, 1.0f, panel, some, 0.0f, product);
    moments.together += 2 * Dot(product, w.Rows(first, rest));
    moments.together -= Dot(MatrixView(product).Rows(0, size), some);
    for (Index i = first; i < first + size; ++i) {
      moments.apart += gram(i, i) * Dot(w.Rows(i, 1), w.Rows(i, 1));
    }
  }
  return moments;
}

// ||x w||_F^2, w: inputs x outputs.
double SquaredNormOfProduct(MatrixView x, const Matrix& w, ThreadPool& pool) {
  std::vector<double> sums(static_cast<size_t>(ShardsOf(x.rows(), kTokensPerShard)));
  pool.ParallelFor(static_cast<Index>(sums.size()), [&](Index i) {
    const Index first = i * kTokensPerShard;
    const MatrixView rows = x.Rows(first, std::min(kTokensPerShard, x.rows() - first));
    Matrix y(rows.rows(), w.cols());
    Gemm(Trans::kNo, Trans::kNo, 1.0f, rows, w, 0.0f, y);
    for (const float value : y.flat()) {
      sums[static_cast<size_t>(i)] += static_cast<double>(value) * static_cast<double>(value);
    }
  });
  return Sum(sums);
}

}  // namespace

double Dot(MatrixView a, MatrixView b) {
  double sum = 0;
  for (Index i = 0; i < a.rows(); ++i) {
    for (Index j = 0; j < a.cols(); ++j) {
      sum += static_cast<double>(a(i, j)) * static_cast<double>(b(i, j));
    }
  }
  return sum;
}

double LinearError::relative() const {
  if (dense == 0) return difference == 0 ? 0 : std::numeric_limits<double>::infinity();
  return difference / dense;
}

double SquaredNormOfOutputs(MatrixView x, const GramMatrix& gram, const NamedWeight& weight,
                            absl::optional<MatrixView> less, ThreadPool& pool) {
  const Index outputs = Outputs(weight);
  std::vector<Moments> shards(static_cast<size_t>(ShardsOf(outputs, kOutputsPerShard)));
  pool.ParallelFor(static_cast<Index>(shards.size()), [&](Index i) {
    const Index first = i * kOutputsPerShard;
    const Index count = std::min(kOutputsPerShard, outputs - first);
    shards[static_cast<size_t>(i)] = MomentsOf(gram, InOut(weight, less, first, count));
  });
  double together = 0, apart = 0;
  for (const Moments& shard : shards) {
    together += shard.together;
    apart += shard.apart;
  }
  // Infinite or not a number where moments, or their products, overflow float32.
  if (std::isfinite(together) && together >= kLeastResolved * apart) return together;
  return SquaredNormOfProduct(x, InOut(weight, less, 0, outputs), pool);
}

}  // namespace attnprune
