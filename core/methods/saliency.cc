#include "core/methods/saliency.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/gram.h"
#include "core/methods/linear_map.h"

namespace attnprune {
namespace {

constexpr double kSmallest = 1e-6;  // of a matrix's largest saliency

// log(|W_ij| row_scales[i] col_scales[j] / the largest + kSmallest); all alike if all are 0.
Matrix LogScores(MatrixView w, const std::vector<double>& row_scales,
                 const std::vector<double>& col_scales) {
  const auto saliency = [&](Index i, Index j) {
    return std::abs(static_cast<double>(w(i, j))) * row_scales[static_cast<size_t>(i)] *
           col_scales[static_cast<size_t>(j)];
  };
  double largest = 0;
  for (Index i = 0; i < w.rows(); ++i) {
    for (Index j = 0; j < w.cols(); ++j) largest = std::max(largest, saliency(i, j));
  }
  Matrix scores(w.rows(), w.cols());
  for (Index i = 0; i < w.rows(); ++i) {
    for (Index j = 0; j < w.cols(); ++j) {
      const double relative = saliency(i, j) / largest;
      // Not a number where all are 0, or where a square overflowed.
      scores(i, j) = static_cast<float>(std::log((relative > 0 ? relative : 0) + kSmallest));
    }
  }
  return scores;
}

// ||X w_i||^2 of every row i of w, X'X being `gram`.
std::vector<double> OutputSquares(MatrixView w, const GramMatrix& gram) {
  std::vector<double> squares(static_cast<size_t>(w.rows()));
  for (Index i = 0; i < w.rows(); ++i) {
    double sum = 0;
    for (Index a = 0; a < w.cols(); ++a) {
      double product = 0;
      for (Index b = 0; b < w.cols(); ++b) product += gram(a, b) * static_cast<double>(w(i, b));
      sum += product * static_cast<double>(w(i, a));
    }
    squares[static_cast<size_t>(i)] = std::max(sum, 0.0);  // rounding
  }
  return squares;
}

// ||X c_j|| of every output j of a factor.
std::vector<double> OutputNorms(const NamedWeight& factor, const GramMatrix& gram) {
  const Matrix out_in = OutIn(factor);
  std::vector<double> norms = OutputSquares(out_in, gram);
  for (double& norm : norms) norm = std::sqrt(norm);
  return norms;
}

// Adds up the squares of every pair that the rotary embedding mixes.
void JoinPairs(const Rope& rope, Index head_dim, std::vector<double>& squares) {
  const bool interleaved = rope.layout == RopeLayout::kInterleaved;
  const Index distance = interleaved ? 1 : head_dim / 2;
  for (Index first = 0; first < static_cast<Index>(squares.size()); first += head_dim) {
    for (Index pair = 0; pair < head_dim / 2; ++pair) {
      const Index i = first + (interleaved ? 2 * pair : pair);
      double& a = squares[static_cast<size_t>(i)];
      double& b = squares[static_cast<size_t>(i + distance)];
      a = b = a + b;
    }
  }
}

// What every output meets: ||p_i|| for W_Q and for W_K.
struct Partners {
  std::vector<double> of_q, of_k;
};

Partners PartnerNorms(const ProjectionWeights& layer, const GramMatrix& gram) {
  std::vector<double> q = OutputSquares(layer.w_q, gram), k = OutputSquares(layer.w_k, gram);
  const Index dim = layer.head_dim(), group = layer.heads / layer.kv_heads;
  if (layer.rope.has_value()) {
    JoinPairs(*layer.rope, dim, q);
    JoinPairs(*layer.rope, dim, k);
  }
  Partners partners{std::vector<double>(q.size()), std::vector<double>(k.size())};
  for (Index i = 0; i < static_cast<Index>(q.size()); ++i) {
    const auto partner = static_cast<size_t>(i / dim / group * dim + i % dim);
    partners.of_q[static_cast<size_t>(i)] = std::sqrt(k[partner]);
    partners.of_k[partner] += q[static_cast<size_t>(i)];
  }
  for (double& norm : partners.of_k) norm = std::sqrt(norm);
  return partners;
}

}  // namespace

std::vector<Matrix> LogSaliency(PreparedProblem& prepared, SearchedWeights searched) {
  const Problem& problem = prepared.problem();
  const std::vector<double> norms = ColumnNorms(problem.calibration.all(), prepared.pool());
  std::vector<Matrix> scores;
  if (searched == SearchedWeights::kFactors) {
    const auto gram = prepared.CalibrationGram();
    const std::vector<NamedWeight> factors = LinearMaps(problem, /*by_factors=*/true);
    for (size_t i = 0; i < 2; ++i) {
      scores.push_back(LogScores(factors[i].dense, norms, OutputNorms(factors[1 - i], *gram)));
    }
    return scores;
  }
  if (problem.fused()) {
    scores.push_back(LogScores(problem.fused_weights().w, norms, norms));
    return scores;
  }
  const ProjectionWeights& layer = problem.projections();
  const Partners partners = PartnerNorms(layer, *prepared.CalibrationGram());
  scores.push_back(LogScores(layer.w_q, partners.of_q, norms));
  scores.push_back(LogScores(layer.w_k, partners.of_k, norms));
  return scores;
}

}  // namespace attnprune
