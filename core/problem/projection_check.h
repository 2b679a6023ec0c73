// The rules of a real layer's projections and options that need no data.
#ifndef ATTNPRUNE_CORE_PROBLEM_PROJECTION_CHECK_H_
#define ATTNPRUNE_CORE_PROBLEM_PROJECTION_CHECK_H_

#include "absl/status/status.h"
#include "core/problem/problem_shape.h"
#include "core/problem/shape_check.h"

namespace attnprune {

// INVALID_ARGUMENT naming the field, the rule and the value. Both weights have at least one row and
// column. Pure.
absl::Status ValidateProjections(const ProjectionShape& shape, const ProblemFields& fields);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_PROJECTION_CHECK_H_
