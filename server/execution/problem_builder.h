// From a job and the stored tensors to the problem that the methods solve.
#ifndef ATTNPRUNE_SERVER_EXECUTION_PROBLEM_BUILDER_H_
#define ATTNPRUNE_SERVER_EXECUTION_PROBLEM_BUILDER_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "core/problem/problem.h"
#include "server/blobs/blob_store.h"
#include "server/execution/job_spec.h"

namespace attnprune {

// Reads every tensor of `job`, hashing its bytes first (once a digest), and converts them to
// float32. Needs memory for the problem, and maps one tensor at a time. The problem is valid.
//
// Errors name the field, "job.calibration[1]", and for a tensor the digest. DATA_LOSS: a tensor is
// gone, has not the size of its shape and dtype, or its bytes have changed. INVALID_ARGUMENT: a
// value is not finite, with its place in the tensor, or a product of two factors has such values.
// CANCELLED: `stopped`, asked between two tensors, said so. RESOURCE_EXHAUSTED: the disk is full.
//
// spill_folder: where calibration and held-out tokens go to a file of their own, as float32, which
// the system reads as they are asked for; empty: they stay in memory.
//
// With a held_out_fraction the calibration batches are split as job.proto says: a pure function of
// the job, so that a resumed job has the same problem.
absl::StatusOr<Problem> BuildProblem(const JobSpec& job, BlobStore* tensors,
                                     absl::FunctionRef<bool()> stopped,
                                     const std::string& spill_folder = "");

// What BuildProblem and the methods that split the calibration batches write to `spill_folder`, at
// most.
int64_t SpilledBytes(const ProblemShape& shape);

// Where `problem`, built of `job`, has its held-out batches from.
v1::HeldOutSource HeldOutSourceOf(const JobSpec& job, const Problem& problem);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_PROBLEM_BUILDER_H_
