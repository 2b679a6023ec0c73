#include "tests/reference/gradient_check.h"

#include <cmath>
#include <limits>

namespace attnprune::reference {
namespace {

double CentralDifference(const AttentionProblem& problem, std::vector<Dense>* masks, double lambda,
                         double* entry, double h) {
  const double original = *entry;
  *entry = original + h;
  const double above = TotalLoss(problem, *masks, lambda);
  *entry = original - h;
  const double below = TotalLoss(problem, *masks, lambda);
  *entry = original;
  return (above - below) / (2 * h);
}

// Relative rounding of one float64 evaluation of the loss: a few hundred operations deep, each
// 2^-53, on terms whose sum of magnitudes is at most `magnitude`.
double LossRounding(double magnitude) {
  return 1000 * std::numeric_limits<double>::epsilon() * magnitude;
}

}  // namespace

NumericGradients CentralDifferences(const AttentionProblem& problem,
                                    const std::vector<Dense>& masks, double lambda) {
  constexpr double kStep = 1.0 / 512;
  double tokens = 0;  // each row of f~ - f has a square norm of at most 2
  for (const Dense& x : problem.batches) tokens += static_cast<double>(x.rows());
  const double magnitude =
      tokens * static_cast<double>(problem.heads) + Regularization(masks, lambda);
  const double rounding = LossRounding(magnitude) / kStep;

  std::vector<Dense> moved = masks;
  NumericGradients gradients{masks, masks};  // every entry is overwritten
  for (size_t w = 0; w < masks.size(); ++w) {
    for (Index e = 0; e < masks[w].size(); ++e) {
      double* entry = moved[w].data() + e;
      const double coarse = CentralDifference(problem, &moved, lambda, entry, kStep);
      const double fine = CentralDifference(problem, &moved, lambda, entry, kStep / 2);
      gradients.value[w].data()[e] = (4 * fine - coarse) / 3;
      gradients.error[w].data()[e] = std::abs(fine - coarse) + rounding;
    }
  }
  return gradients;
}

::testing::AssertionResult Near(const Dense& actual, const Dense& expected,
                                const Dense& tolerance) {
  if (actual.rows() != expected.rows() || actual.cols() != expected.cols()) {
    return ::testing::AssertionFailure()
           << "shape " << actual.rows() << " x " << actual.cols() << " instead of "
           << expected.rows() << " x " << expected.cols();
  }
  double worst = 0;
  Index row = 0, col = 0;
  for (Index i = 0; i < actual.rows(); ++i) {
    for (Index j = 0; j < actual.cols(); ++j) {
      const double error = std::abs(actual(i, j) - expected(i, j));
      if (error <= tolerance(i, j)) continue;
      const double excess = error / tolerance(i, j);
      if (!(excess <= worst)) worst = excess, row = i, col = j;
    }
  }
  if (worst == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "entry (" << row << ", " << col << ") is " << actual(row, col) << ", expected "
         << expected(row, col) << " within " << tolerance(row, col) << ": " << worst
         << " times the tolerance";
}

::testing::AssertionResult Near(const Dense& actual, const Dense& expected, double tolerance) {
  return Near(actual, expected, Dense::Constant(expected.rows(), expected.cols(), tolerance));
}

::testing::AssertionResult Near(const std::vector<Dense>& actual,
                                const std::vector<Dense>& expected,
                                const std::vector<Dense>& tolerance) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure() << actual.size() << " instead of " << expected.size();
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    ::testing::AssertionResult near = Near(actual[i], expected[i], tolerance[i]);
    if (!near) return near << " (weight " << i << ")";
  }
  return ::testing::AssertionSuccess();
}

}  // namespace attnprune::reference
