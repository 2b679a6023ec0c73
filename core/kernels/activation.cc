#include "core/kernels/activation.h"

#include <algorithm>
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

// act(x) and act'(x).
struct ValueAndSlope {
  Lanes value, slope;
};

// x sigmoid(u) of a u that depends on x with the slope du.
inline ValueAndSlope SigmoidProduct(Lanes x, Lanes u, Lanes du) {
  const Lanes e = ExpNonPositive(u > 0.0f ? -u : u);
  const Lanes larger = 1.0f / (e + 1.0f), smaller = e / (e + 1.0f);
  const Lanes s = u > 0.0f ? larger : smaller, rest = u > 0.0f ? smaller : larger;
  return {x * s, s + x * du * (s * rest)};
}

inline ValueAndSlope GeluTanhAndSlope(Lanes x) {
  constexpr float kTwoRoots = 2 * 0.79788456080286536f;
  return SigmoidProduct(x, (x + 0.044715f * x * x * x) * kTwoRoots,
                        (1.0f + (3 * 0.044715f) * x * x) * kTwoRoots);
}

inline ValueAndSlope GeluAndSlope(Lanes x) {
  constexpr float kInverseRootOf2 = 0.70710678118654752f, kInverseRootOf2Pi = 0.39894228040143268f;
  Lanes below;  // the share of the normal distribution below x
  for (Index i = 0; i < kLanes; ++i) below[i] = 0.5f * (1.0f + std::erf(x[i] * kInverseRootOf2));
  return {x * below, below + x * kInverseRootOf2Pi * ExpNonPositive(x * x * -0.5f)};
}

inline ValueAndSlope ApplyWithSlope(Activation activation, Lanes x) {
  const Lanes positive = Max(x, Lanes{});
  switch (activation) {
    case Activation::kSilu:
      return SigmoidProduct(x, x, Broadcast(1.0f));
    case Activation::kGelu:
      return GeluAndSlope(x);
    case Activation::kGeluTanh:
    case Activation::kGeluFast:
    case Activation::kGeluBloom:
      return GeluTanhAndSlope(x);
    case Activation::kQuickGelu:
      return SigmoidProduct(x, x * 1.702f, Broadcast(1.702f));
    case Activation::kRelu:
      return {positive, x > 0.0f ? Broadcast(1.0f) : Lanes{}};
    case Activation::kRelu2:
      return {positive * positive, positive * 2.0f};
  }
  return {x, Broadcast(1.0f)};
}

// The first n entries, zeros behind them.
inline Lanes LoadSome(const float* p, Index n) {
  Lanes v{};
  for (Index j = 0; j < n; ++j) v[j] = p[j];
  return v;
}
inline void StoreSome(float* p, Index n, Lanes v) {
  for (Index j = 0; j < n; ++j) p[j] = v[j];
}

// ActivateGateBackward of n entries of a row, or ActivateBackward where `up` is null.
template <Activation activation>
void BackwardRow(const float* d, float* row, float* up, Index n) {
  for (Index j = 0; j < n; j += kLanes) {
    const Index some = std::min(kLanes, n - j);
    const bool whole = some == kLanes;
    const auto load = [=](const float* p) {
      return whole ? LoadLanes(p + j) : LoadSome(p + j, some);
    };
    const auto store = [=](float* p, Lanes v) {
      if (whole) return StoreLanes(p + j, v);
      StoreSome(p + j, some, v);
    };
    const ValueAndSlope act = ApplyWithSlope(activation, load(row));
    const Lanes gradient = load(d);
    store(row, up == nullptr ? gradient * act.slope : gradient * load(up) * act.slope);
    if (up != nullptr) store(up, gradient * act.value);
  }
}

// The inner loops for one function.
struct RowLoops {
  void (*forward)(float* row, const float* up, Index n);
  void (*backward)(const float* d, float* row, float* up, Index n);
};

template <Activation activation>
constexpr RowLoops LoopsFor() {
  return {ActivateRow<activation>, BackwardRow<activation>};
}

RowLoops LoopsOf(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return LoopsFor<Activation::kSilu>();
    case Activation::kGelu:
      return LoopsFor<Activation::kGelu>();
    case Activation::kGeluTanh:
      return LoopsFor<Activation::kGeluTanh>();
    case Activation::kGeluFast:
      return LoopsFor<Activation::kGeluFast>();
    case Activation::kGeluBloom:
      return LoopsFor<Activation::kGeluBloom>();
    case Activation::kQuickGelu:
      return LoopsFor<Activation::kQuickGelu>();
    case Activation::kRelu:
      return LoopsFor<Activation::kRelu>();
    case Activation::kRelu2:
      return LoopsFor<Activation::kRelu2>();
  }
  return {};
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
  const RowLoops loops = LoopsOf(activation);
  for (Index i = 0; i < x.rows(); ++i) loops.forward(x.row(i), nullptr, x.cols());
}

void ActivateGate(Activation activation, MutableMatrixView x, MatrixView up) {
  const RowLoops loops = LoopsOf(activation);
  for (Index i = 0; i < x.rows(); ++i) loops.forward(x.row(i), up.row(i), x.cols());
}

void ActivateBackward(Activation activation, MatrixView d, MutableMatrixView x) {
  const RowLoops loops = LoopsOf(activation);
  for (Index i = 0; i < x.rows(); ++i) loops.backward(d.row(i), x.row(i), nullptr, x.cols());
}

void ActivateGateBackward(Activation activation, MatrixView d, MutableMatrixView x,
                          MutableMatrixView up) {
  const RowLoops loops = LoopsOf(activation);
  for (Index i = 0; i < x.rows(); ++i) loops.backward(d.row(i), x.row(i), up.row(i), x.cols());
}

}  // namespace attnprune
