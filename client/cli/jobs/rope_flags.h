// The flags of a rotary embedding, for those who name a layer's tensors by hand.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_ROPE_FLAGS_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_ROPE_FLAGS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/flags/job_flags.h"

namespace attnprune::cli {

// "llama3:factor=32,original_max_positions=8192", "longrope:...,short_factor=1/1.5/2,...".
// INVALID_ARGUMENT names --rope-scaling: no such type, a number that the type does not have, is
// missing, given twice or no number.
absl::StatusOr<v1::RopeScaling> ParseRopeScaling(const std::string& text);

// Whether any of the flags is given.
bool HasRopeFlags(const JobFlags& flags);

// Sets `rope` of a layer, where the flags ask for one. INVALID_ARGUMENT names the flag.
absl::Status SetRope(const JobFlags& flags, v1::ProjectionProblem* layer);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_ROPE_FLAGS_H_
