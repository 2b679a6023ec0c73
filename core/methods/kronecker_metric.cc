#include "core/methods/kronecker_metric.h"

#include <algorithm>
#include <utility>

#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/methods/linear_map.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

double Trace(const GramMatrix& gram) {
  double sum = 0;
  for (Index i = 0; i < gram.size(); ++i) sum += gram(i, i);
  return sum;
}

GramMatrix Times(double by, const GramMatrix& gram) {
  GramMatrix result(gram.size());
  for (Index i = 0; i < gram.size(); ++i) {
    for (Index j = 0; j < gram.size(); ++j) result(i, j) = by * gram(i, j);
  }
  return result;
}

}  // namespace

absl::StatusOr<KroneckerMetric> KroneckerMetric::Create(const HeadCurvature& curvature,
                                                        double damping, double floor) {
  const double trace = Trace(curvature.outputs);
  GramMatrix outputs = curvature.outputs;
  for (Index i = 0; i < outputs.size(); ++i) outputs(i, i) += floor;
  GramMatrix inputs = Times(trace > 0 ? 1 / trace : 0, curvature.inputs);
  if (!(Trace(inputs) > 0)) {
    for (Index j = 0; j < inputs.size(); ++j) inputs(j, j) = 1;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(AlpsInputs of_inputs, PrepareAlps(inputs, damping));
  ATTNPRUNE_ASSIGN_OR_RETURN(AlpsInputs of_outputs, PrepareAlps(outputs, damping));
  return KroneckerMetric(std::move(of_inputs), std::move(of_outputs));
}

void KroneckerMetric::Scale(MatrixView weights, MutableMatrixView out) const {
  for (Index i = 0; i < weights.rows(); ++i) {
    const float of_row = outputs_.scale[static_cast<size_t>(i)];
    for (Index j = 0; j < weights.cols(); ++j) {
      out(i, j) = weights(i, j) * (of_row * inputs_.scale[static_cast<size_t>(j)]);
    }
  }
}

void KroneckerMetric::Unscale(MatrixView weights, MutableMatrixView out) const {
  for (Index i = 0; i < weights.rows(); ++i) {
    const float of_row = outputs_.scale[static_cast<size_t>(i)];
    for (Index j = 0; j < weights.cols(); ++j) {
      const float by = of_row * inputs_.scale[static_cast<size_t>(j)];
      out(i, j) = by == 0 ? 0 : weights(i, j) / by;
    }
  }
}

void KroneckerMetric::Multiply(MatrixView x, float mu, MutableMatrixView out) const {
  Matrix half = Matrix::CopyFrom(x);
  Gemm(Trans::kNo, Trans::kNo, 1.0f, outputs_.h, x, mu, half);
  for (Index i = 0; i < x.rows(); ++i) std::copy_n(half.row(i), x.cols(), out.row(i));
  Gemm(Trans::kNo, Trans::kNo, 1.0f, half, inputs_.h, mu, out);
}

void KroneckerMetric::Solve(MatrixView x, float mu, float r, MutableMatrixView out) const {
  Matrix half(x.rows(), x.cols()), turned(x.rows(), x.cols());
  Gemm(Trans::kNo, Trans::kNo, 1.0f, outputs_.vectors, x, 0.0f, half);
  Gemm(Trans::kNo, Trans::kYes, 1.0f, half, inputs_.vectors, 0.0f, turned);
  for (Index i = 0; i < x.rows(); ++i) {
    const float of_row = outputs_.values[static_cast<size_t>(i)] + mu;
    for (Index j = 0; j < x.cols(); ++j) {
      const float value = of_row * (inputs_.values[static_cast<size_t>(j)] + mu) + r;
      turned(i, j) = value > 0 ? turned(i, j) / value : 0;
    }
  }
  Gemm(Trans::kNo, Trans::kNo, 1.0f, turned, inputs_.vectors, 0.0f, half);
  Gemm(Trans::kYes, Trans::kNo, 1.0f, outputs_.vectors, half, 0.0f, out);
}

void KroneckerMetric::Refine(MatrixView c, float mu, MatrixView mask, int steps,
                             MutableMatrixView x) const {
  Matrix product(x.rows(), x.cols()), residual(x.rows(), x.cols());
  Multiply(x, mu, product);
  ArrayOf(residual) = (ArrayOf(c) - ArrayOf(product)) * ArrayOf(mask);
  Matrix direction = residual.Clone();
  double norm = InnerProduct(residual, residual);
  for (int step = 0; step < steps; ++step) {
    Multiply(direction, mu, product);
    const double curvature = InnerProduct(direction, product);
    if (!(norm > 0) || !(curvature > 0)) return;  // solved, as far as float32 goes
    const auto length = static_cast<float>(norm / curvature);
    ArrayOf(x) += length * ArrayOf(direction);
    ArrayOf(residual) -= length * ArrayOf(product) * ArrayOf(mask);
    const double before = std::exchange(norm, InnerProduct(residual, residual));
    ArrayOf(direction) = ArrayOf(residual) + static_cast<float>(norm / before) * ArrayOf(direction);
  }
}

absl::StatusOr<std::vector<KroneckerMetric>> PrepareMetrics(
    const std::vector<HeadCurvature>& curvatures, double damping, ThreadPool& pool) {
  constexpr double kFloor = 1e-6;
  double mean = 0;
  for (const HeadCurvature& head : curvatures) {
    mean += Trace(head.outputs) /
            static_cast<double>(head.outputs.size() * static_cast<Index>(curvatures.size()));
  }
  const double floor = mean > 0 ? kFloor * mean : 1;
  std::vector<absl::optional<absl::StatusOr<KroneckerMetric>>> made(curvatures.size());
  pool.ParallelFor(static_cast<Index>(curvatures.size()), [&](Index h) {
    const auto head = static_cast<size_t>(h);
    made[head] = KroneckerMetric::Create(curvatures[head], damping, floor);
  });
  std::vector<KroneckerMetric> metrics;
  for (auto& metric : made) {
    ATTNPRUNE_ASSIGN_OR_RETURN(KroneckerMetric ready, *std::move(metric));
    metrics.push_back(std::move(ready));
  }
  return metrics;
}

}  // namespace attnprune
