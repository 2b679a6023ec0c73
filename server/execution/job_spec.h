// A job as it is checked, estimated and solved: the one reading of the API's message.
#ifndef ATTNPRUNE_SERVER_EXECUTION_JOB_SPEC_H_
#define ATTNPRUNE_SERVER_EXECUTION_JOB_SPEC_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "attnprune/v1/job.pb.h"
#include "core/methods/registry.h"
#include "core/objective/attention_objective.h"
#include "core/problem/problem_shape.h"
#include "server/execution/job_tensor.h"

namespace attnprune {

struct JobMethod {
  MethodSpec spec;    // not checked (ChooseMethod)
  std::string label;  // of its results; the name where the job has none
};

struct JobSpec {
  ProblemShape shape;  // valid; calibration and held_out have a group for each tensor
  std::vector<JobTensor> weights, calibration, held_out;  // in the order of the message
  double norm_weight_offset = 0;                          // QkNorm.weight_offset
  std::vector<JobMethod> methods;
  uint64_t seed = 0;
  int evaluate_every = 0;  // -1: never; 0: the method's default
};

// INVALID_ARGUMENT with the path of the field at fault, "job.problem.projections.w_q.shape", unless
// every rule of the problem that needs no data is met. max_tensor_bytes: of a tensor that the job
// names, and of the product of two factors, in float32, which no tensor of the job bounds. Pure.
absl::StatusOr<JobSpec> DecodeJob(const v1::Job& job,
                                  int64_t max_tensor_bytes = std::numeric_limits<int64_t>::max());

// INVALID_ARGUMENT naming `field` with ".name" or ".parameters.lambda" and its like.
absl::StatusOr<ChosenMethod> DecodeMethod(const MethodSpec& method, absl::string_view field);

// The stored weight that a result's matrix ("w", "w_q", "w_k") takes the place of; nullptr for the
// product of two factors, which is not stored.
const JobTensor* InputWeight(absl::Span<const JobTensor> weights, absl::string_view matrix);

// RunOptions::evaluate_every of a method that takes so many steps at most.
int EvaluateEvery(const JobSpec& job, int steps_at_most);

// How a job with these peaks is to run: the first way that `budget` bytes have room for (0: any),
// or the last. By kRecompute calibration and held-out tokens are in a file, not in memory. No
// result depends on it. A job that an older server stored has no figure for rebuilding: 0, which
// fits, as that server had it.
DenseAttention WithinBudget(const v1::Estimate& estimate, int64_t budget);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_JOB_SPEC_H_
