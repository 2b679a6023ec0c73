// Places that tenants take turns at: messages of downloads, which bounds what they hold in memory,
// and threads for calls.
#ifndef ATTNPRUNE_SERVER_GRPC_FAIR_SHARE_H_
#define ATTNPRUNE_SERVER_GRPC_FAIR_SHARE_H_

#include <deque>
#include <functional>
#include <map>
#include <string>

#include "core/base/mutex.h"

namespace attnprune::rpc {

// Tenants take turns, and one alone has three quarters at most: readers that take nothing, and
// calls that come faster than they are answered, hold up their own tenant's. Thread-safe.
class FairShare {
 public:
  explicit FairShare(int places);  // at least 1

  // Calls `go` once there is a place: at once, or later from Release; a tenant's are first come,
  // first served.
  void Acquire(const std::string& tenant, std::function<void()> go);
  // What `go` was called for is through.
  void Release(const std::string& tenant);

 private:
  struct Tenant {
    int taken = 0;
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

#endif  // ATTNPRUNE_SERVER_GRPC_FAIR_SHARE_H_
