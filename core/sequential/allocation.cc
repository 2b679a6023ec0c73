#include "core/sequential/allocation.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "core/base/status_macros.h"
#include "core/kernels/gram.h"

namespace attnprune {
namespace {

constexpr Index kScoreRows = 64;

// Sums of the squares of the inputs of each group's maps, entry by entry.
std::vector<std::vector<double>> NoSquares() {
  return std::vector<std::vector<double>>(kMapGroups);
}

// Calls visit(score) for |w_ab| ||X_b|| of some rows.
template <typename Visit>
void ForScores(MatrixView rows, absl::Span<const double> norms, const Visit& visit) {
  for (Index a = 0; a < rows.rows(); ++a) {
    const float* const row = rows.row(a);
    for (size_t b = 0; b < norms.size(); ++b) {
      visit(std::abs(static_cast<double>(row[b])) * norms[b]);
    }
  }
}

// The sum over shards of work(rows of the shard), in their order.
template <typename Work>
double SumOverShards(MatrixView w, ThreadPool& pool, const Work& work) {
  std::vector<double> sums(static_cast<size_t>((w.rows() + kScoreRows - 1) / kScoreRows));
  pool.ParallelFor(static_cast<Index>(sums.size()), [&](Index shard) {
    const Index first = shard * kScoreRows;
    sums[static_cast<size_t>(shard)] = work(w.Rows(first, std::min(kScoreRows, w.rows() - first)));
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

double CountOutliers(MatrixView w, absl::Span<const double> norms, double outlier,
                     ThreadPool& pool) {
  const double sum = SumOverShards(w, pool, [&](MatrixView rows) {
    double of_rows = 0;
    ForScores(rows, norms, [&](double score) { of_rows += score; });
    return of_rows;
  });
  const double least = outlier * sum / static_cast<double>(w.size());
  return SumOverShards(w, pool, [&](MatrixView rows) {
    double of_rows = 0;
    ForScores(rows, norms, [&](double score) { of_rows += score > least ? 1 : 0; });
    return of_rows;
  });
}

double ShareOfOutliers(const LayerWeights& weights, const std::vector<std::vector<double>>& squares,
                       double outlier, ThreadPool& pool) {
  double count = 0, size = 0;
  for (size_t g = 0; g < squares.size(); ++g) {
    std::vector<double> norms(squares[g].size());
    std::transform(squares[g].begin(), squares[g].end(), norms.begin(),
                   [](double square) { return std::sqrt(square); });
    for (const LinearMap map : GroupAt(g).maps) {
      const MatrixView w = weights.of(map).weight;
      if (w.size() == 0) continue;
      count += CountOutliers(w, norms, outlier, pool);
      size += static_cast<double>(w.size());
    }
  }
  return count / size;
}

}  // namespace

absl::StatusOr<std::vector<double>> OutlierShares(const Forward& forward, ThreadPool& pool,
                                                  double outlier, const TokenStates& states,
                                                  const PassListener& listener) {
  const Index layers = forward.options().layer_count();
  const double total = static_cast<double>(layers) * static_cast<double>(states.hidden.rows());
  LayerForward layer(forward.options(), pool, forward.compute());
  LayerWeights weights;
  std::vector<double> shares;
  shares.reserve(static_cast<size_t>(layers));
  for (Index i = 0; i < layers; ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(forward.weights().LoadLayer(i, pool, weights));
    std::vector<std::vector<double>> squares = NoSquares();
    LayerHooks hooks;
    for (size_t g = 0; g < squares.size(); ++g) {
      hooks.*(GroupAt(g).input) = [&squares, g](Index, MatrixView input) {
        AddColumnSquares(input, squares[g]);
      };
    }
    if (listener) {
      const double before = static_cast<double>(i) * static_cast<double>(states.hidden.rows());
      hooks.goes_on = [&listener, before, total](Index rows) {
        return listener((before + static_cast<double>(rows)) / total);
      };
    }
    if (!layer.Run(i, weights, states.lengths, states.hidden, hooks)) {
      return absl::CancelledError("interrupted");
    }
    shares.push_back(ShareOfOutliers(weights, squares, outlier, pool));
  }
  return shares;
}

std::vector<double> OwlSparsities(double rho, double limit, absl::Span<const double> shares) {
  const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
  if (*least == *most) return std::vector<double>(shares.size(), rho);
  std::vector<double> z(shares.size());
  for (size_t i = 0; i < z.size(); ++i) {
    z[i] = 2 * limit * (shares[i] - *least) / (*most - *least);
  }
  const double mean = std::accumulate(z.begin(), z.end(), 0.0) / static_cast<double>(z.size());
  std::vector<double> sparsities(z.size());
  std::transform(z.begin(), z.end(), sparsities.begin(),
                 [&](double one) { return rho - (one - mean); });
  return sparsities;
}

std::vector<double> ProgressionSparsities(double rho, double step, Index blocks) {
  std::vector<double> sparsities(static_cast<size_t>(blocks));
  for (size_t i = 0; i < sparsities.size(); ++i) {
    sparsities[i] = rho + step * (static_cast<double>(i) - static_cast<double>(blocks - 1) / 2);
  }
  return sparsities;
}

double DefaultProgressionStep(Index blocks) {
  constexpr double kFirstToLast = 0.06;
  return blocks < 2 ? 0 : kFirstToLast / static_cast<double>(blocks - 1);
}

}  // namespace attnprune
