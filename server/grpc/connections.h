// The connections of the gRPC port, so that there are never too many.
#ifndef ATTNPRUNE_SERVER_GRPC_CONNECTIONS_H_
#define ATTNPRUNE_SERVER_GRPC_CONNECTIONS_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "absl/types/optional.h"
#include "core/base/mutex.h"

namespace attnprune::rpc {

// Where one more than `most` comes, the oldest goes of those by which no call was let in; where
// there are none, the oldest of the tenant that has more than a half of them; where there is none
// such either, the new one is refused. gRPC 1.51 has no such limit. Thread-safe.
class Connections {
 public:
  explicit Connections(int64_t most) : most_(most) {}  // at least 1

  // Of a connected socket that gRPC is about to own: gRPC alone closes it, and tells nobody.
  // False: refused. O(1), or O(most) where the limit is reached.
  bool Add(int fd);
  // Where the process is short of memory: closes every connection by which no call was let in and
  // that has sent more than a few KiB, unread bytes and all. Calls that gRPC 1.51 holds, of which
  // the headers came and no message, or that were reset faster than it gets through, go with it.
  // How many were closed.
  int64_t CloseStrangers();
  // There are any by which no call was let in.
  bool HasStrangers();
  // A call was let in, by the connection from `peer`, "127.0.0.1:40112" or "[::1]:40112".
  void LetIn(const std::string& peer, const std::string& tenant);

 private:
  struct Connection {
    int fd = -1;
    uint64_t socket = 0;  // its inode: what tells it from a later one of the same number
    std::string peer;
    absl::optional<std::string> tenant;  // of the last call that was let in
  };
  using ByAge = std::map<int64_t, Connection>;

  static bool IsOpen(const Connection& connection);
  static void ShutDown(const Connection& connection);
  static bool CloseIfItSentMuch(const Connection& connection);
  void ForgetClosed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ByAge::iterator ToGo() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(ByAge::iterator connection) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t most_;
  Mutex mutex_;
  int64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  ByAge by_age_ ABSL_GUARDED_BY(mutex_);  // closed ones among them, until there is no room
  std::set<int64_t> strangers_ ABSL_GUARDED_BY(mutex_);  // of by_age_: no call of theirs was let in
  std::unordered_map<std::string, int64_t> by_peer_ ABSL_GUARDED_BY(mutex_);
};

// The other end, as LetIn takes it; empty: it has none any more. Pure.
std::string PeerOfSocket(int fd);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_CONNECTIONS_H_
