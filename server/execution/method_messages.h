// What a worker says of a method, as the API's messages, and what it writes down of one in
// progress. Pure; callable from any thread.
#ifndef ATTNPRUNE_SERVER_EXECUTION_METHOD_MESSAGES_H_
#define ATTNPRUNE_SERVER_EXECUTION_METHOD_MESSAGES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/prune_service.pb.h"
#include "core/judge/score.h"
#include "core/methods/method.h"
#include "server/execution/job_tensor.h"

namespace attnprune {

// Seconds for the steps that are left, at the rate of those taken since the run began or was
// resumed. 0 before the first.
double EstimateRemaining(const StepStats& stats, int steps_before);

// steps_before, seconds_before: of earlier attempts.
v1::Progress MakeProgress(const std::string& label, const StepStats& stats, int steps_before,
                          double seconds_before);

// As an event's payload. method: empty while the job is prepared.
v1::Progress MakePhaseProgress(v1::Phase phase, const std::string& method, double share,
                               double seconds);

// inputs: the job's weights. seconds: of solving, over all attempts. The matrices' tensors have
// dtype, shape and name; digests are still to be filled in.
v1::MethodResult MakeMethodResult(const std::string& label, absl::Span<const JobTensor> inputs,
                                  const PruneResult& result, const Score& score, double seconds);

// A method that has no result.
v1::MethodResult MakeFailedMethod(const std::string& label, const absl::Status& status);

// What a worker writes down of the method in progress.
//
//   state | "ANPCKPT1" | method index, int64 | seconds of solving so far, float64
//
// Little-endian; the state is what Resumable::AppendState gave. The facts stand behind it so that
// neither writing nor reading copies it. The job store guards the bytes by a checksum, the state
// carries its own and says which problem and parameters it is of.
struct MethodCheckpoint {
  int method_index = 0;  // into the job's methods
  double seconds = 0;    // of solving that method, over all attempts
  std::string state;
};

std::string FormatMethodCheckpoint(MethodCheckpoint checkpoint);
// DATA_LOSS: not such bytes.
absl::StatusOr<MethodCheckpoint> ParseMethodCheckpoint(std::string bytes);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_METHOD_MESSAGES_H_
