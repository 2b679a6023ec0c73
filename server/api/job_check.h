// Every rule of a submitted job that can be checked without reading a tensor's bytes (the comments
// of job.proto are their text), in one place. Pure; callable from any thread.
#ifndef ATTNPRUNE_SERVER_API_JOB_CHECK_H_
#define ATTNPRUNE_SERVER_API_JOB_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/job.pb.h"
#include "core/methods/registry.h"
#include "server/execution/job_spec.h"

namespace attnprune::api {

struct CheckedJob {
  // As submitted, without its output-only fields, and with the methods' labels set.
  v1::Job job;
  JobSpec spec;
  std::vector<ChosenMethod> methods;  // of the job, in its order

  // One a mention, in the order of the message.
  std::vector<const JobTensor*> Tensors() const;
};

// INVALID_ARGUMENT with the path of the field at fault, "job.problem.projections.w_q.shape".
// max_tensor_bytes: of a tensor the job names.
absl::StatusOr<CheckedJob> CheckJob(const v1::Job& job, int64_t max_tensor_bytes);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_JOB_CHECK_H_
