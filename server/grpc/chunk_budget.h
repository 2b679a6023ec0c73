// Bounds what downloads hold in memory: how many of their messages are on their way at once.
#ifndef ATTNPRUNE_SERVER_GRPC_CHUNK_BUDGET_H_
#define ATTNPRUNE_SERVER_GRPC_CHUNK_BUDGET_H_

#include <deque>
#include <functional>
#include <map>
#include <string>

#include "core/base/mutex.h"

namespace attnprune::rpc {

// Tenants take turns, and one alone has three quarters at most: readers that take nothing hold up
// their own tenant's downloads. Thread-safe.
class ChunkBudget {
 public:
  explicit ChunkBudget(int chunks);  // at least 1

  // Calls `go` once a message may be sent: at once, or later from Release; a tenant's are first
  // come, first served.
  void Acquire(const std::string& tenant, std::function<void()> go);
  // Of a message that has gone, or never will.
  void Release(const std::string& tenant);

 private:
  struct Tenant {
    int on_their_way = 0;
    std::deque<std::function<void()>> waiting;
  };

  std::function<void()> TakeNext(const std::string& after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayGo(const Tenant& tenant) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int most_of_tenant_;
  Mutex mutex_;
  int free_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Tenant> tenants_ ABSL_GUARDED_BY(mutex_);  // that have or wait for some
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_CHUNK_BUDGET_H_
