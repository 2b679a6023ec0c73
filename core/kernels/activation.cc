#include "core/kernels/activation.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/kernels/lanes.h"

namespace attnprune {
namespace {

constexpr struct {
  const char* name;
  Activation activation;
} kActivationNames[] = {
    {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
    {"gelu", Activation::kGelu},          {"gelu_new", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluFast}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"relu", Activation::kRelu},          {"quick_gelu", Activation::kQuickGelu},
    {"relu2", Activation::kRelu2},
};

// 1 / (1 + e^-x), without an exponent that overflows.
inline Lanes Sigmoid(Lanes x) {
  const Lanes e = ExpNonPositive(x > 0.0f ? -x : x);
  return (x > 0.0f ? Broadcast(1.0f) : e) / (e + 1.0f);
}

// x/2 (1 + tanh(root (x + 0.044715 x^3))) = x sigmoid(2 root (x + 0.044715 x^3)).
// The three ways to write the root, 0.79788456 and longer, are one number in float32.
inline Lanes GeluTanh(Lanes x) {
  constexpr float kRoot = 0.79788456080286536f;
  return x * Sigmoid((x + 0.044715f * x * x * x) * (2 * kRoot));
}

inline Lanes Gelu(Lanes x) {
  constexpr float kInverseRootOf2 = 0.70710678118654752f;
  for (Index i = 0; i < kLanes; ++i) x[i] *= 0.5f * (1.0f + std::erf(x[i] * kInverseRootOf2));
  return x;
}

inline Lanes Apply(Activation activation, Lanes x) {
  const Lanes positive = Max(x, Lanes{});
  switch (activation) {
    case Activation::kSilu:
      return x * Sigmoid(x);
    case Activation::kGelu:
      return Gelu(x);
    case Activation::kGeluTanh:
    case Activation::kGeluFast:
    case Activation::kGeluBloom:
      return GeluTanh(x);
    case Activation::kQuickGelu:
      return x * Sigmoid(x * 1.702f);
    case Activation::kRelu:
      return positive;
    case Activation::kRelu2:
      return positive * positive;
  }
  return x;
}

// n entries of a row; the last vector is put together apart. up: null or n factors.
template <Activation activation>
void ActivateRow(float* row, const float* up, Index n) {
  const Index whole = FloorToLanes(n);
  for (Index j = 0; j < whole; j += kLanes) {
    const Lanes y = Apply(activation, LoadLanes(row + j));
    StoreLanes(row + j, up == nullptr ? y : y * LoadLanes(up + j));
  }
  Lanes rest{};
  for (Index j = whole; j < n; ++j) rest[j - whole] = row[j];
  rest = Apply(activation, rest);
  for (Index j = whole; j < n; ++j) row[j] = rest[j - whole] * (up == nullptr ? 1.0f : up[j]);
}

using RowFunction = void (*)(float* row, const float* up, Index n);

RowFunction RowFunctionOf(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return ActivateRow<Activation::kSilu>;
    case Activation::kGelu:
      return ActivateRow<Activation::kGelu>;
    case Activation::kGeluTanh:
      return ActivateRow<Activation::kGeluTanh>;
    case Activation::kGeluFast:
      return ActivateRow<Activation::kGeluFast>;
    case Activation::kGeluBloom:
      return ActivateRow<Activation::kGeluBloom>;
    case Activation::kQuickGelu:
      return ActivateRow<Activation::kQuickGelu>;
    case Activation::kRelu:
      return ActivateRow<Activation::kRelu>;
    case Activation::kRelu2:
      return ActivateRow<Activation::kRelu2>;
  }
  return nullptr;
}

}  // namespace

absl::optional<Activation> ParseActivation(absl::string_view name) {
  for (const auto& known : kActivationNames) {
    if (name == known.name) return known.activation;
  }
  return absl::nullopt;
}

std::string ActivationNames() {
  std::string names;
  for (const auto& known : kActivationNames) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", known.name);
  }
  return names;
}

void Activate(Activation activation, MutableMatrixView x) {
  const RowFunction row = RowFunctionOf(activation);
  for (Index i = 0; i < x.rows(); ++i) row(x.row(i), nullptr, x.cols());
}

void ActivateGate(Activation activation, MutableMatrixView x, MatrixView up) {
  const RowFunction row = RowFunctionOf(activation);
  for (Index i = 0; i < x.rows(); ++i) row(x.row(i), up.row(i), x.cols());
}

}  // namespace attnprune
