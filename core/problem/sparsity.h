// How many weights go.
#ifndef ATTNPRUNE_CORE_PROBLEM_SPARSITY_H_
#define ATTNPRUNE_CORE_PROBLEM_SPARSITY_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Either a fraction of each weight matrix, or N of every M consecutive inputs (Wanda's and
// SparseGPT's sense: 2:4 removes two of four, 1:4 removes one).
struct Sparsity {
  double fraction = 0.5;  // rho in [0, 1); used when group is 0
  Index pruned = 0;       // N, 0 <= N < M
  Index group = 0;        // M, at least 2; 0: unstructured

  static Sparsity Fraction(double rho) { return {.fraction = rho}; }
  static Sparsity NOfM(Index n, Index m) { return {.fraction = 0, .pruned = n, .group = m}; }
  bool structured() const { return group != 0; }
  bool operator==(const Sparsity&) const = default;

  // floor(rho * size), or size * N / M when structured.
  Index PrunedOf(Index size) const;
};

// "0.5" or "2:4". INVALID_ARGUMENT naming `sparsity`, the rule and the value.
absl::StatusOr<Sparsity> ParseSparsity(absl::string_view text);
std::string ToString(const Sparsity& sparsity);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_SPARSITY_H_
