#include "core/kernels/norm.h"

#include <cmath>

namespace attnprune {
namespace {

// term(0) + ... + term(n - 1), in eight sums so that it runs in vectors.
template <typename Term>
double SumOf(Index n, Term term) {
  constexpr Index kSums = 8;
  double sums[kSums] = {};
  Index i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (Index s = 0; s < kSums; ++s) sums[s] += term(i + s);
  }
  for (Index s = 0; i < n; ++i, ++s) sums[s] += term(i);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// x^ = (x - mean) * inverse of one group.
struct Standard {
  double mean, inverse;
  double operator()(float x) const { return (static_cast<double>(x) - mean) * inverse; }
};

Standard StandardOf(const RowNorm& norm, const float* x, Index n) {
  const auto count = static_cast<double>(n);
  const double mean = norm.kind == NormKind::kRms
                          ? 0.0
                          : SumOf(n, [x](Index i) { return static_cast<double>(x[i]); }) / count;
  const double squares = SumOf(n, [x, mean](Index i) {
    const double centred = static_cast<double>(x[i]) - mean;
    return centred * centred;
  });
  return {mean, 1 / std::sqrt(squares / count + norm.eps)};
}

// `values` from the feature `first` on; null if there are none.
const float* From(absl::Span<const float> values, Index first) {
  return values.empty() ? nullptr : values.data() + first;
}

void NormalizeGroup(const Standard& standard, const float* weight, const float* bias,
                    const float* x, Index n, float* y) {
  for (Index i = 0; i < n; ++i) {
    double value = standard(x[i]);
    if (weight != nullptr) value *= static_cast<double>(weight[i]);
    if (bias != nullptr) value += static_cast<double>(bias[i]);
    y[i] = static_cast<float>(value);
  }
}

void BackwardGroup(const RowNorm& norm, const float* weight, const float* x, Index n, float* d) {
  const Standard standard = StandardOf(norm, x, n);
  const auto g = [weight, d](Index i) {
    const auto of_y = static_cast<double>(d[i]);
    return weight == nullptr ? of_y : static_cast<double>(weight[i]) * of_y;
  };
  const auto count = static_cast<double>(n);
  const double mean_g = norm.kind == NormKind::kRms ? 0.0 : SumOf(n, g) / count;
  const double mean_g_x = SumOf(n, [&](Index i) { return g(i) * standard(x[i]); }) / count;
  for (Index i = 0; i < n; ++i) {
    d[i] = static_cast<float>((g(i) - mean_g - standard(x[i]) * mean_g_x) * standard.inverse);
  }
}

Index GroupOf(const RowNorm& norm, MatrixView x) { return norm.group > 0 ? norm.group : x.cols(); }

}  // namespace

void Normalize(const RowNorm& norm, MatrixView x, MutableMatrixView y) {
  const Index group = GroupOf(norm, x);
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index first = 0; first < x.cols(); first += group) {
      const float* of_x = x.row(t) + first;
      NormalizeGroup(StandardOf(norm, of_x, group), From(norm.weight, first),
                     From(norm.bias, first), of_x, group, y.row(t) + first);
    }
  }
}

void NormalizeBackward(const RowNorm& norm, MatrixView x, MutableMatrixView d) {
  const Index group = GroupOf(norm, x);
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index first = 0; first < x.cols(); first += group) {
      BackwardGroup(norm, From(norm.weight, first), x.row(t) + first, group, d.row(t) + first);
    }
  }
}

}  // namespace attnprune
