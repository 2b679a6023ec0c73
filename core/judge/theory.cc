#include "core/judge/theory.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/judge/linear_error.h"
#include "core/kernels/blas.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

TheoryFigure Vacuous(std::string why) { return {absl::nullopt, std::move(why)}; }

double SquaredNorm(MatrixView m) { return Dot(m, m); }

// What a thread works in, one batch after the other: pages that are fresh for each cost much.
struct EigenScratch {
  std::vector<double> panel, products, values;
};

// The least and the largest eigenvalue of x x'; not numbers where none are found.
std::pair<double, double> ExtremeEigenvalues(MatrixView x, EigenScratch& scratch) {
  constexpr Index kFeaturesPerPanel = 256;
  const Index n = x.rows();
  scratch.values.resize(static_cast<size_t>(n));
  scratch.products.assign(static_cast<size_t>(n * n), 0);
  for (Index first = 0; first < x.cols(); first += kFeaturesPerPanel) {
    const Index width = std::min(kFeaturesPerPanel, x.cols() - first);
    scratch.panel.clear();
    for (Index i = 0; i < n; ++i) {
      const float* const row = x.row(i) + first;
      scratch.panel.insert(scratch.panel.end(), row, row + width);
    }
    AddProductWithTranspose(n, width, scratch.panel, absl::MakeSpan(scratch.products));
  }
  if (!SymmetricEigenvalues(n, absl::MakeSpan(scratch.products), absl::MakeSpan(scratch.values))) {
    return {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
  }
  return {scratch.values.front(), scratch.values.back()};
}

TheoryFigure Delta(double log_delta) {
  if (log_delta < std::log(static_cast<double>(std::numeric_limits<float>::epsilon()))) {
    return Vacuous(absl::StrFormat("it is 1e%.0f, far below the rounding of f~ itself",
                                   log_delta / std::log(10.0)));
  }
  return {std::exp(log_delta), ""};
}

TheoryFigure Mu(const TheoryFigure& beta, const TheoryFigure& delta, double smallest_weight) {
  if (!beta.value.has_value()) return Vacuous("beta is");
  if (!delta.value.has_value()) return Vacuous("delta is");
  if (smallest_weight == 0) return Vacuous("W has an entry that is 0");
  return {2 * smallest_weight * *beta.value * *delta.value, ""};
}

TheoryFigure Xi(const TheoryFigure& mu, const Problem& problem, double lambda) {
  if (!mu.value.has_value()) return Vacuous("mu is");
  if (lambda == 0) return Vacuous("lambda is 0");
  const Batches& batches = problem.calibration;
  double largest = 0;  // n^-1.5 ||X||_F^2
  for (Index j = 0; j < batches.count(); ++j) {
    const double n = static_cast<double>(batches.length(j));
    largest = std::max(largest, std::pow(n, -1.5) * SquaredNorm(batches.batch(j)));
  }
  const double d = static_cast<double>(problem.features());
  const auto weight = static_cast<double>(ArrayOf(problem.fused_weights().w).abs().maxCoeff());
  return {12 * largest * weight * lambda * d / *mu.value, ""};
}

TheoryFigure Lipschitz(const Problem& problem, double lambda) {
  const Batches& batches = problem.calibration;
  const double d = static_cast<double>(problem.features());
  const double weight_norm = SquaredNorm(problem.fused_weights().w);
  double bound = lambda;
  for (Index j = 0; j < batches.count(); ++j) {
    const double n = static_cast<double>(batches.length(j));
    const double r_squared = std::max({1.0, SquaredNorm(batches.batch(j)), weight_norm});
    bound += 30 * d * std::pow(n, 3.5) * std::pow(r_squared, 3);
  }
  return {bound, ""};
}

}  // namespace

TheoryFigure Beta(PreparedProblem& problem) {
  const Batches& batches = problem.problem().calibration;
  for (Index j = 0; j < batches.count(); ++j) {
    const MatrixView x = batches.batch(j);
    if (x.rows() <= x.cols()) continue;
    return Vacuous(absl::StrCat("it is exactly 0: batch ", j, " has n = ", x.rows(),
                                " tokens of d = ", x.cols(), " features"));
  }
  std::vector<std::pair<double, double>> extremes(static_cast<size_t>(batches.count()));
  std::vector<EigenScratch> scratch(static_cast<size_t>(problem.pool().threads()));
  problem.pool().ParallelFor(batches.count(), [&](Index j, int worker) {
    extremes[static_cast<size_t>(j)] =
        ExtremeEigenvalues(batches.batch(j), scratch[static_cast<size_t>(worker)]);
  });
  double beta = std::numeric_limits<double>::infinity();
  for (Index j = 0; j < batches.count(); ++j) {
    const auto [least, most] = extremes[static_cast<size_t>(j)];
    // An eigenvalue within the solver's rounding of 0 has no digits.
    const double rounding =
        static_cast<double>(batches.length(j)) * std::numeric_limits<double>::epsilon() * most;
    if (!(least > rounding)) return Vacuous(absl::StrCat("X X' of batch ", j, " is singular"));
    beta = std::min(beta, least);
  }
  return {beta, ""};
}

std::string ToString(const TheoryFigure& figure) {
  if (figure.value.has_value()) return absl::StrFormat("%.4g", *figure.value);
  return absl::StrCat("vacuous (", figure.vacuous_because, ")");
}

TheoryFigures Theory(const Problem& problem, const TheoryFigure& beta, double log_delta,
                     double lambda) {
  TheoryFigures figures;
  figures.beta = beta;
  figures.delta = Delta(log_delta);
  if (!problem.fused()) {
    figures.mu = figures.xi = figures.lipschitz = Vacuous("Theorem 4.1 is about the fused problem");
    return figures;
  }
  if (problem.effective_scale() != 1.0f) {
    figures.mu = figures.xi = figures.lipschitz = Vacuous("Theorem 4.1 is about scale 1");
    return figures;
  }
  figures.mu = Mu(figures.beta, figures.delta,
                  static_cast<double>(ArrayOf(problem.fused_weights().w).abs().minCoeff()));
  figures.xi = Xi(figures.mu, problem, lambda);
  figures.lipschitz = Lipschitz(problem, lambda);
  return figures;
}

}  // namespace attnprune
