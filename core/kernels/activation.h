// The functions between the two linear maps of a transformer's MLP.
//
// Source: huggingface/transformers, activations.py; bloom's in modeling_bloom.py. Plain functions,
// callable from any thread; a value's bits depend on nothing but the value.
#ifndef ATTNPRUNE_CORE_KERNELS_ACTIVATION_H_
#define ATTNPRUNE_CORE_KERNELS_ACTIVATION_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "core/tensor/matrix.h"

namespace attnprune {

enum class Activation {
  kSilu,       // x sigmoid(x)
  kGelu,       // x/2 (1 + erf(x / sqrt(2)))
  kGeluTanh,   // x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  kGeluFast,   // the same with 0.7978845608 for the root
  kGeluBloom,  // the same with 0.79788456
  kQuickGelu,  // x sigmoid(1.702 x)
  kRelu,
  kRelu2,  // max(x, 0)^2
};

// By transformers' name: "silu", "swish", "gelu", "gelu_new", ...; nullopt: no such name.
absl::optional<Activation> ParseActivation(absl::string_view name);
// All names that ParseActivation knows, with commas between.
std::string ActivationNames();

// x <- act(x). Within 4e-7 (1 + |x|) of the exact value.
void Activate(Activation activation, MutableMatrixView x);
// x <- act(x) o up. Same shapes.
void ActivateGate(Activation activation, MutableMatrixView x, MatrixView up);

// x <- d o act'(x): from d, the gradient at act(x), to the one at x. act' within 1e-6 (1 + |x|) of
// the exact value; 0 at the kink of relu. Same shapes.
void ActivateBackward(Activation activation, MatrixView d, MutableMatrixView x);
// x <- d o up o act'(x) and up <- d o act(x): from d, the gradient at act(x) o up, to those at x
// and up. Same shapes.
void ActivateGateBackward(Activation activation, MatrixView d, MutableMatrixView x,
                          MutableMatrixView up);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ACTIVATION_H_
