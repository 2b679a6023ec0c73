// Linear maps that are pruned for what they do to their own outputs.
#ifndef ATTNPRUNE_CORE_METHODS_LINEAR_PROBLEM_H_
#define ATTNPRUNE_CORE_METHODS_LINEAR_PROBLEM_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/methods/linear_inputs.h"
#include "core/methods/output_metric.h"
#include "core/problem/problem.h"
#include "core/problem/sparsity.h"

namespace attnprune {

// Maps of the same d inputs, y = W x, which are known by their second moments alone.
struct LinearProblem {
  std::vector<NamedWeight> maps;  // at least one
  LinearInputs& inputs;           // may be shared with problems of other maps of theirs
  Sparsity sparsity;
  // Of the loss at the outputs of the one map, for methods that use it
  // (MethodInfo::reads_curvature). Null: unknown.
  const OutputCurvature* curvature = nullptr;
};

// INVALID_ARGUMENT naming `moments`, the map, `sparsity` or `curvature` unless all shapes agree,
// N:M divides d and every number is finite.
absl::Status Validate(const LinearProblem& problem);

// Of everything that a method's result on it depends on. O(d^2) and the curvature's entries.
uint64_t Fingerprint(const LinearProblem& problem, absl::string_view method,
                     absl::Span<const double> parameters);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_LINEAR_PROBLEM_H_
