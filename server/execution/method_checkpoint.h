// What a worker writes down of the method in progress.
//
//   state | "ANPCKPT1" | method index, int64 | seconds of solving so far, float64
//
// Little-endian; the state is what Resumable::AppendState gave. The facts stand behind it so that
// neither writing nor reading copies it. The job store guards the bytes by a checksum, the state
// carries its own and says which problem and parameters it is of.
#ifndef ATTNPRUNE_SERVER_EXECUTION_METHOD_CHECKPOINT_H_
#define ATTNPRUNE_SERVER_EXECUTION_METHOD_CHECKPOINT_H_

#include <string>

#include "absl/status/statusor.h"

namespace attnprune {

struct MethodCheckpoint {
  int method_index = 0;  // into the job's methods
  double seconds = 0;    // of solving that method, over all attempts
  std::string state;
};

std::string FormatMethodCheckpoint(MethodCheckpoint checkpoint);
// DATA_LOSS: not such bytes.
absl::StatusOr<MethodCheckpoint> ParseMethodCheckpoint(std::string bytes);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_METHOD_CHECKPOINT_H_
