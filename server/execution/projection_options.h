// The options of a real layer's projections, decoded from the API's message: all but its tensors.
#ifndef ATTNPRUNE_SERVER_EXECUTION_PROJECTION_OPTIONS_H_
#define ATTNPRUNE_SERVER_EXECUTION_PROJECTION_OPTIONS_H_

#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "core/problem/problem_shape.h"

namespace attnprune {

// Defaults filled in. INVALID_ARGUMENT with the path of the field, "job.problem.projections.rope
// .layout", where an enumeration has no such value or a required one is missing; ranges are
// Validate's (core/problem/shape_check.h). Pure.
absl::StatusOr<Rope> DecodeRope(const v1::Rope& rope);
absl::StatusOr<Alibi> DecodeAlibi(v1::Alibi alibi);
// Without the entries of its tensors. weight_offset too must be in its range.
absl::StatusOr<QkNormShape> DecodeQkNorm(const v1::QkNorm& norm);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_PROJECTION_OPTIONS_H_
