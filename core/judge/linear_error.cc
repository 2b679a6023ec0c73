#include "core/judge/linear_error.h"

#include <algorithm>
#include <array>
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

// Calls visit(row, col) once for every entry of rows x cols, by tiles: what reads by rows and
// writes by columns stays in the cache.
template <typename Visit>
void ForEntriesByTiles(Index rows, Index cols, const Visit& visit) {
  constexpr Index kTile = 32;
  for (Index i0 = 0; i0 < rows; i0 += kTile) {
    for (Index j0 = 0; j0 < cols; j0 += kTile) {
      for (Index i = i0; i < std::min(rows, i0 + kTile); ++i) {
        for (Index j = j0; j < std::min(cols, j0 + kTile); ++j) visit(i, j);
      }
    }
  }
}

// What a thread works in, one shard after the other: pages that are fresh for each cost much.
struct Scratch {
  Matrix whole, panel, product;
};

// `matrix` as rows x cols, made when it is not.
MutableMatrixView Room(Matrix& matrix, Index rows, Index cols) {
  if (matrix.rows() != rows || matrix.cols() != cols) matrix = Matrix(rows, cols);
  return matrix;
}

// out = W - V, or W: inputs x outputs from `first` on.
void FillInOut(const NamedWeight& weight, const absl::optional<MatrixView>& less, Index first,
               MutableMatrixView out) {
  const Index count = out.cols();
  const auto part = [&](MatrixView w) {
    return weight.inputs_are_rows ? w.Block(0, first, w.rows(), count) : w.Rows(first, count);
  };
  const MatrixView from = part(weight.dense);
  const MatrixView minus = less.has_value() ? part(*less) : MatrixView();
  const auto value = [&](Index i, Index j) {
    return less.has_value() ? from(i, j) - minus(i, j) : from(i, j);
  };
  if (weight.inputs_are_rows) {
    ForEntriesByTiles(from.rows(), count, [&](Index i, Index j) { out(i, j) = value(i, j); });
  } else {
    ForEntriesByTiles(count, from.cols(), [&](Index j, Index i) { out(i, j) = value(j, i); });
  }
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

// By the upper triangle, a panel of inputs at a time. scratch.whole: inputs x outputs.
Moments MomentsOf(const GramMatrix& gram, Scratch& scratch) {
  const MatrixView w = scratch.whole;
  const MutableMatrixView panels =
      Room(scratch.panel, std::min(kInputsPerPanel, gram.size()), gram.size());
  const MutableMatrixView products = Room(scratch.product, gram.size(), w.cols());
  Moments moments;
  for (Index first = 0; first < gram.size(); first += kInputsPerPanel) {
    const Index size = std::min(kInputsPerPanel, gram.size() - first), rest = gram.size() - first;
    const auto panel = panels.Block(0, 0, size, rest), product = products.Rows(0, rest);
    FillPanel(gram, first, panel);
    const MatrixView some = w.Rows(first, size);
    Gemm(Trans::kYes, Trans::kNo, 1.0f, panel, some, 0.0f, product);
    moments.together += 2 * Dot(product, w.Rows(first, rest));
    moments.together -= Dot(product.Rows(0, size), some);
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
  constexpr Index kLanes = 8;  // sums side by side: one alone waits for each addition
  std::array<double, kLanes> lanes = {};
  for (Index i = 0; i < a.rows(); ++i) {
    const float *const x = a.row(i), *const y = b.row(i);
    Index j = 0;
    for (; j + kLanes <= a.cols(); j += kLanes) {
      for (Index lane = 0; lane < kLanes; ++lane) {
        lanes[static_cast<size_t>(lane)] +=
            static_cast<double>(x[j + lane]) * static_cast<double>(y[j + lane]);
      }
    }
    for (; j < a.cols(); ++j) lanes[0] += static_cast<double>(x[j]) * static_cast<double>(y[j]);
  }
  return Sum(lanes);
}

double LinearError::relative() const {
  if (dense == 0) return difference == 0 ? 0 : std::numeric_limits<double>::infinity();
  return difference / dense;
}

namespace {

Moments MomentsInAll(const GramMatrix& gram, const NamedWeight& weight,
                     absl::optional<MatrixView> less, ThreadPool& pool) {
  const Index outputs = Outputs(weight);
  std::vector<Moments> shards(static_cast<size_t>(ShardsOf(outputs, kOutputsPerShard)));
  std::vector<Scratch> scratch(static_cast<size_t>(pool.threads()));
  pool.ParallelFor(static_cast<Index>(shards.size()), [&](Index i, int worker) {
    Scratch& own = scratch[static_cast<size_t>(worker)];
    const Index first = i * kOutputsPerShard;
    const Index count = std::min(kOutputsPerShard, outputs - first);
    FillInOut(weight, less, first, Room(own.whole, Inputs(weight), count));
    shards[static_cast<size_t>(i)] = MomentsOf(gram, own);
  });
  Moments all;
  for (const Moments& shard : shards) {
    all.together += shard.together;
    all.apart += shard.apart;
  }
  return all;
}

}  // namespace

double SquaredNormByMoments(const GramMatrix& gram, const NamedWeight& weight,
                            absl::optional<MatrixView> less, ThreadPool& pool) {
  return std::max(MomentsInAll(gram, weight, less, pool).together, 0.0);
}

double SquaredNormOfOutputs(MatrixView x, const GramMatrix& gram, const NamedWeight& weight,
                            absl::optional<MatrixView> less, ThreadPool& pool) {
  const Moments all = MomentsInAll(gram, weight, less, pool);
  // Infinite or not a number where moments, or their products, overflow float32.
  if (std::isfinite(all.together) && all.together >= kLeastResolved * all.apart) {
    return all.together;
  }
  Matrix whole(Inputs(weight), Outputs(weight));
  FillInOut(weight, less, 0, whole);
  return SquaredNormOfProduct(x, whole, pool);
}

}  // namespace attnprune
