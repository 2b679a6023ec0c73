// The rules of a job's problem and data: shapes that fit each other. Pure; callable from any
// thread.
#ifndef ATTNPRUNE_SERVER_API_PROBLEM_CHECK_H_
#define ATTNPRUNE_SERVER_API_PROBLEM_CHECK_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"

namespace attnprune::api {

// Called for each tensor of the job with its field, before anything is asked of its shape.
using CheckTensor = std::function<absl::Status(const std::string& field, const v1::TensorRef&)>;

// Weights, attention, scale, calibration, held-out and sparsity of `job`. INVALID_ARGUMENT with the
// path of the field at fault.
// max_tensor_bytes: of the product of two factors, in float32, which no tensor of the job bounds.
absl::Status CheckProblem(const v1::Job& job, const CheckTensor& check_tensor,
                          int64_t max_tensor_bytes);

// d, the input features. The weights must have passed CheckProblem.
int64_t InputFeatures(const v1::Problem& problem);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_PROBLEM_CHECK_H_
