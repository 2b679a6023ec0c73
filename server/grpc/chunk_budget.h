// Bounds what downloads hold in memory: how many of their messages are on their way at once.
#ifndef ATTNPRUNE_SERVER_GRPC_CHUNK_BUDGET_H_
#define ATTNPRUNE_SERVER_GRPC_CHUNK_BUDGET_H_

#include <deque>
#include <functional>

#include "core/base/mutex.h"

namespace attnprune::rpc {

// Thread-safe.
class ChunkBudget {
 public:
  explicit ChunkBudget(int chunks) : free_(chunks) {}  // at least 1

  // Calls `go` once a message may be sent: at once, or later from Release, first come, first
  // served.
  void Acquire(std::function<void()> go);
  // Of a message that has gone, or never will.
  void Release();

 private:
  Mutex mutex_;
  int free_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_CHUNK_BUDGET_H_
