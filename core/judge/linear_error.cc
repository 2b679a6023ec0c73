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

// Calls visit(i, j) for the entries of a matrix, in tiles: so that those of a line of the cache are
// visited soon after each other, in the matrix and in its transpose.
template <typename Visit>
void ForEachByTiles(Index rows, Index cols, Visit visit) {
  constexpr Index kRows = 16, kCols = 8;
  for (Index row = 0; row < rows; row += kRows) {
    const Index last_row = std::min(row + kRows, rows);
    for (Index col = 0; col < cols; col += kCols) {
      const Index last_col = std::min(col + kCols, cols);
      for (Index i = row; i < last_row; ++i) {
        for (Index j = col; j < last_col; ++j) visit(i, j);
      }
    }
  }
}

// Writes W - V, or W: the outputs from `first` on. out: inputs x some outputs.
void FillInOut(const NamedWeight& weight, const absl::optional<MatrixView>& less, Index first,
               MutableMatrixView out) {
  const auto at = [&](MatrixView w, Index i, Index j) {
    return weight.inputs_are_rows ? w(i, first + j) : w(first + j, i);
  };
  ForEachByTiles(out.rows(), out.cols(), [&](Index i, Index j) {
    out(i, j) =
        less.has_value() ? at(weight.dense, i, j) - at(*less, i, j) : at(weight.dense, i, j);
  });
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

// What a thread works in, shard after shard: fresh memory costs as much as the work.
struct MomentsScratch {
  MomentsScratch(Index inputs, Index outputs)
      : in_out(inputs, outputs),
        panel(std::min(kInputsPerPanel, inputs), inputs),
        product(inputs, outputs) {}

  Matrix in_out, panel, product;
};

// By the upper triangle, a panel of inputs at a time. w: inputs x outputs.
Moments MomentsOf(const GramMatrix& gram, MatrixView w, MomentsScratch& scratch) {
  Moments moments;
  for (Index first = 0; first < gram.size(); first += kInputsPerPanel) {
    const Index size = std::min(kInputsPerPanel, gram.size() - first), rest = gram.size() - first;
    const MutableMatrixView panel(scratch.panel.data(), size, rest);
    const MutableMatrixView product(scratch.product.data(), rest, w.cols());
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
  std::vector<absl::optional<MomentsScratch>> scratch(static_cast<size_t>(pool.threads()));
  pool.ParallelFor(static_cast<Index>(shards.size()), [&](Index i, int worker) {
    auto& own = scratch[static_cast<size_t>(worker)];
    if (!own.has_value()) own.emplace(gram.size(), std::min(kOutputsPerShard, outputs));
    const Index first = i * kOutputsPerShard;
    const MutableMatrixView w(own->in_out.data(), gram.size(),
                              std::min(kOutputsPerShard, outputs - first));
    FillInOut(weight, less, first, w);
    shards[static_cast<size_t>(i)] = MomentsOf(gram, w, *own);
  });
  double together = 0, apart = 0;
  for (const Moments& shard : shards) {
    together += shard.together;
    apart += shard.apart;
  }
  // Infinite or not a number where moments, or their products, overflow float32.
  if (std::isfinite(together) && together >= kLeastResolved * apart) return together;
  Matrix whole(Inputs(weight), outputs);
  FillInOut(weight, less, 0, whole);
  return SquaredNormOfProduct(x, whole, pool);
}

}  // namespace attnprune
