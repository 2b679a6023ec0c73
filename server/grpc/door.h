// Where clients of gRPC connect: sockets that listen, and the thread that accepts.
#ifndef ATTNPRUNE_SERVER_GRPC_DOOR_H_
#define ATTNPRUNE_SERVER_GRPC_DOOR_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"

namespace attnprune::rpc {

// A descriptor that it owns.
class OwnedFd {
 public:
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept;
  OwnedFd& operator=(OwnedFd&&) = delete;
  ~OwnedFd();
  int get() const { return fd_; }

 private:
  int fd_;
};

// gRPC would accept by itself, but has no limit of connections. Not thread-safe.
class Door {
 public:
  // Listens on each address of HOST:PORT; port 0: any free one, the same on each. UNAVAILABLE:
  // cannot listen there, and why.
  static absl::StatusOr<std::unique_ptr<Door>> Listen(const std::string& listen);
  ~Door() { Close(); }

  int port() const { return port_; }
  // Accepts from now on. take(listening, accepted): on a thread of its own; the second descriptor,
  // which never blocks, is the callee's. look: on that thread, whenever it has nothing to take;
  // says in how many milliseconds it wants to be called again at the latest, -1: after the next
  // that is taken.
  void Open(std::function<void(int listening, int accepted)> take, std::function<int()> look);
  // Nobody is accepted any more, and neither is called again. Idempotent.
  void Close();

 private:
  Door(std::vector<OwnedFd> listening, OwnedFd closing, int port)
      : listening_(std::move(listening)), closing_(std::move(closing)), port_(port) {}
  void Loop(const std::function<void(int, int)>& take, const std::function<int()>& look) const;

  std::vector<OwnedFd> listening_;
  const OwnedFd closing_;  // readable from Close on
  const int port_;
  std::jthread thread_;
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_DOOR_H_
