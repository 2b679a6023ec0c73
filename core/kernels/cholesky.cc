#include "core/kernels/cholesky.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/kernels/triangle.h"

namespace attnprune {
namespace {

constexpr double kFirstPercdampAfterZero = 1e-6;

// `factor`: L of the damped and reversed h, row-major. A pivot is a square of L's diagonal.
bool PivotsAreSound(const GramMatrix& h, double damping, absl::Span<const double> factor) {
  constexpr double kEpsilon = static_cast<double>(std::numeric_limits<float>::epsilon());
  const Index n = h.size();
  for (Index i = 0; i < n; ++i) {
    const double root = factor[static_cast<size_t>(i * n + i)];
    const Index original = n - 1 - i;
    if (!(root * root > kEpsilon * (h(original, original) + damping))) return false;
  }
  return true;
}

Matrix UpperTriangle(Index n, absl::Span<const double> values) {
  Matrix u(n, n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = i; j < n; ++j) {
      u(i, j) = static_cast<float>(values[static_cast<size_t>(i * n + j)]);
    }
  }
  return u;
}

bool AllFinite(absl::Span<const double> values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

double MeanOfDiagonal(const GramMatrix& h) {
  double sum = 0;
  for (Index i = 0; i < h.size(); ++i) sum += h(i, i);
  return h.size() == 0 ? 0 : sum / static_cast<double>(h.size());
}

}  // namespace

absl::optional<Matrix> InverseFactor(const GramMatrix& h, double damping, ThreadPool& pool) {
  const Index n = h.size();
  std::vector<double> a(h.flat().begin(), h.flat().end());
  for (Index i = 0; i < n; ++i) a[static_cast<size_t>(i * n + i)] += damping;

  // With J the reversal of order, J h J = L L', so that h = R R' with R = J L J upper triangular
  // and h^-1 = U'U with U = R^-1 = J L^-1 J. Reversing the storage is J . J.
  std::reverse(a.begin(), a.end());
  if (!CholeskyInPlace(n, absl::MakeSpan(a), pool) || !PivotsAreSound(h, damping, a)) {
    return absl::nullopt;
  }
  if (!InvertLowerTriangleInPlace(n, absl::MakeSpan(a), pool)) return absl::nullopt;
  std::reverse(a.begin(), a.end());
  return UpperTriangle(n, a);
}

absl::StatusOr<DampedFactor> DampedInverseFactor(const GramMatrix& h, double percdamp,
                                                 ThreadPool& pool) {
  if (!AllFinite(h.flat())) {
    return absl::FailedPreconditionError(
        "calibration: X'X must be finite in float32; no percdamp can help");
  }
  const double mean = MeanOfDiagonal(h);
  DampedFactor result{.u = Matrix(), .percdamp = percdamp, .retries = 0};
  for (;;) {
    if (absl::optional<Matrix> u = InverseFactor(h, result.percdamp * mean, pool); u.has_value()) {
      result.u = *std::move(u);
      return result;
    }
    if (result.retries == kMaxDampingRetries) break;
    result.percdamp = result.percdamp == 0 ? kFirstPercdampAfterZero : 10 * result.percdamp;
    ++result.retries;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("percdamp must make X'X positive definite, which neither ", percdamp, " nor ",
                   result.retries, " raises of it up to ", result.percdamp, " did"));
}

}  // namespace attnprune
