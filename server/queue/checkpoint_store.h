// Where a job store keeps its jobs' checkpoints: bytes of any size, outside its transactions.
#ifndef ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_STORE_H_
#define ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_STORE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attnprune {

// What a job's row keeps of its checkpoint.
struct CheckpointRef {
  std::string name;  // empty: no checkpoint
  int64_t size = 0;
  int64_t checksum = 0;
};

// Each checkpoint is written once under a name of its own, then only read. Thread-safe for calls on
// different names.
class CheckpointStore {
 public:
  virtual ~CheckpointStore() = default;

  // OK means that the checkpoint survives a power loss.
  virtual absl::StatusOr<CheckpointRef> Write(const std::string& name,
                                              absl::string_view bytes) const = 0;
  // DATA_LOSS: it is gone or is not what was written.
  virtual absl::StatusOr<std::string> Read(const CheckpointRef& ref) const = 0;
  // Does nothing for an empty name. What cannot be removed stays; no row refers to it.
  virtual void Remove(const std::string& name) const = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_STORE_H_
