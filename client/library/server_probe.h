// Whether a silent server is still there: asked beside a watch, whose stream would not tell of a
// server that hangs or of a network that loses everything. Internal to this library.
#ifndef ATTNPRUNE_CLIENT_LIBRARY_SERVER_PROBE_H_
#define ATTNPRUNE_CLIENT_LIBRARY_SERVER_PROBE_H_

#include <atomic>
#include <mutex>
#include <thread>

#include "client/library/connection.h"

namespace attnprune::client {

// Once the server has said nothing for half a second it is asked for its health, and has a second
// to answer anything. Tells ClientOptions::reachable each change; asks nothing where that is empty.
class ServerProbe {
 public:
  // `telling` is held while `reachable` is called. Both must outlive the probe.
  ServerProbe(Connection& connection, std::mutex& telling);

  // An answer to something else came. From any thread.
  void Heard() { heard_.store(true, std::memory_order_relaxed); }

  // The same, and there is nothing more to ask: tells at once that the server is back.
  void Answered();

 private:
  void Run(const std::stop_token& stop);
  bool Answers(const std::stop_token& stop) const;

  Connection& connection_;
  std::mutex& telling_;
  std::atomic<bool> heard_ = false;
  std::jthread thread_;  // ends before the rest goes
};

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_SERVER_PROBE_H_
