// One layer of a Hugging Face model as a job's problem.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_MODEL_LAYER_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_MODEL_LAYER_H_

#include <string>

#include "absl/status/status.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/files/job_tensors.h"
#include "core/kernels/rope.h"
#include "core/problem/attention_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune::cli {

// Sets the problem of layer `layer` of the model in `folder` and adds its tensors. Errors of
// StoredAttentionLayer and JobTensors.
absl::Status AddModelLayer(const std::string& folder, Index layer, JobTensors& tensors,
                           v1::Problem* problem);

v1::Rope ToProto(const Rope& rope);
v1::AttentionMask ToProto(const AttentionMask& mask);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_MODEL_LAYER_H_
