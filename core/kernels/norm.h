// RMS and Layer norm of rows, and their gradient: of hidden states, and of projected queries and
// keys.
//
// Over each group of features x of a row, with m = mean(x) (0 for RMS) and r = sqrt(mean((x - m)^2)
// + eps):
//   x^ = (x - m) / r,  y = weight o x^ + bias
//   g = weight o dy,  dx = (g - mean(g) - x^ mean(g o x^)) / r,  without mean(g) for RMS
// Sources: Zhang and Sennrich, "Root Mean Square Layer Normalization"; Ba et al., "Layer
// Normalization".
//
// Sums and each entry's arithmetic are in float64, rounded once to float32. Plain functions,
// callable from any thread; a row's bits depend on nothing but the row.
#ifndef ATTNPRUNE_CORE_KERNELS_NORM_H_
#define ATTNPRUNE_CORE_KERNELS_NORM_H_

#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace attnprune {

enum class NormKind {
  kRms,    // divided by the root of the mean square
  kLayer,  // its mean taken off before
};

struct RowNorm {
  NormKind kind = NormKind::kRms;
  double eps = 1e-6;  // at least 0; added to the mean square
  Index group = 0;    // features that are normalised together; divides a row's; 0: the whole row
  absl::Span<const float> weight;  // one a feature of a row; empty: all 1
  absl::Span<const float> bias;    // the same; empty: none
};

// y = the norm of x, row by row. Same shape; y may be x.
void Normalize(const RowNorm& norm, MatrixView x, MutableMatrixView y);

// d: the loss's gradient in y on entry, in x on return. x: what Normalize was given.
void NormalizeBackward(const RowNorm& norm, MatrixView x, MutableMatrixView d);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_NORM_H_
