#include "core/methods/alps_inputs.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "core/kernels/blas.h"

namespace attnprune {
namespace {

std::vector<double> ScaleOf(const GramMatrix& gram, double lambda) {
  std::vector<double> scale(static_cast<size_t>(gram.size()));
  for (Index j = 0; j < gram.size(); ++j) {
    scale[static_cast<size_t>(j)] = std::sqrt(gram(j, j) + lambda);
  }
  return scale;
}

double MeanDiagonal(const GramMatrix& gram) {
  double sum = 0;
  for (Index j = 0; j < gram.size(); ++j) sum += gram(j, j);
  return sum / static_cast<double>(gram.size());
}

// The scaled H, row-major.
std::vector<double> ScaledMoments(const GramMatrix& gram, const std::vector<double>& scale) {
  const Index d = gram.size();
  std::vector<double> h(static_cast<size_t>(d * d));
  for (Index i = 0; i < d; ++i) {
    for (Index j = 0; j < d; ++j) {
      const double by = scale[static_cast<size_t>(i)] * scale[static_cast<size_t>(j)];
      h[static_cast<size_t>(i * d + j)] = by == 0 ? 0 : gram(i, j) / by;
    }
    h[static_cast<size_t>(i * d + i)] = 1;  // ((X'X)_ii + lambda) / s_i^2
  }
  return h;
}

Matrix ToFloat(Index d, const std::vector<double>& values) {
  Matrix result(d, d);
  for (size_t i = 0; i < values.size(); ++i) result.flat()[i] = static_cast<float>(values[i]);
  return result;
}

}  // namespace

absl::StatusOr<AlpsInputs> PrepareAlps(const GramMatrix& gram, double damping) {
  const Index d = gram.size();
  const std::vector<double> scale = ScaleOf(gram, damping * MeanDiagonal(gram));
  std::vector<double> h = ScaledMoments(gram, scale);
  AlpsInputs inputs;
  inputs.h = ToFloat(d, h);
  std::vector<double> values(static_cast<size_t>(d));
  const bool finite =
      std::all_of(h.begin(), h.end(), [](double value) { return std::isfinite(value); });
  if (!finite || !SymmetricEigenvectors(d, absl::MakeSpan(h), absl::MakeSpan(values))) {
    return absl::FailedPreconditionError(
        "calibration: X'X must be finite in float32 and have eigenvectors");
  }
  inputs.vectors = ToFloat(d, h);
  // Rounding makes a 0 a little less.
  for (const double value : values) {
    inputs.values.push_back(static_cast<float>(std::max(value, 0.0)));
  }
  for (const double value : scale) inputs.scale.push_back(static_cast<float>(value));
  return inputs;
}

}  // namespace attnprune
