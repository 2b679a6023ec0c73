// A layer whose tensors are named by hand: --q, --k and what goes with them.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_HAND_LAYER_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_HAND_LAYER_H_

#include "absl/status/status.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/flags/job_flags.h"

namespace attnprune::cli {

// Whether any flag is given that goes with --q and --k only.
bool HasLayerFlags(const JobFlags& flags);

// The rules of these flags that need no file. INVALID_ARGUMENT names the flag and the rule.
absl::Status CheckLayerFlags(const JobFlags& flags);

// Sets the layer and adds its tensors. INVALID_ARGUMENT or NOT_FOUND names the flag or the file and
// the tensor: norms lie beside --q or --k that neither --q-norm and --k-norm nor --no-qk-norm speak
// of; a norm's shape fits no head, or leaves open what it is taken over.
absl::Status AddHandLayer(const JobFlags& flags, JobTensors& tensors, v1::ProjectionProblem* layer);

// Where the layer has its tensor of that name: "w_q", "w_k", "b_q" or "b_k".
v1::TensorRef* WeightOf(absl::string_view weight, v1::ProjectionProblem* layer);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_HAND_LAYER_H_
