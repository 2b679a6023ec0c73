#include "server/grpc/door.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune::rpc {
namespace {

constexpr int kPauseMs = 100;  // after a failed accept, which is for want of file descriptors

absl::Status SystemError() { return absl::UnavailableError(std::strerror(errno)); }

int PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

// port: in place of the address' own.
absl::StatusOr<OwnedFd> ListenOn(const addrinfo& where, int port) {
  OwnedFd fd(socket(where.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return SystemError();
  sockaddr_storage address{};
  std::memcpy(&address, where.ai_addr, where.ai_addrlen);
  const auto wire_port = htons(static_cast<uint16_t>(port));
  if (where.ai_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = wire_port;
  } else {
    reinterpret_cast<sockaddr_in&>(address).sin_port = wire_port;
  }
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // accepted ones have it too
  const bool listens =
      bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), where.ai_addrlen) == 0 &&
      listen(fd.get(), SOMAXCONN) == 0;
  if (!listens) return SystemError();
  return fd;
}

// One address of a name may be of a family that the system lacks.
absl::StatusOr<std::vector<OwnedFd>> ListenOnAll(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos) return absl::UnavailableError("not of the form HOST:PORT");
  std::string host = listen.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), listen.substr(colon + 1).c_str(), &hints, &found);
      error != 0) {
    return absl::UnavailableError(gai_strerror(error));
  }
  const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  std::vector<OwnedFd> listening;
  absl::Status refused = absl::UnavailableError("no address");
  // Families differ in nothing else: both structures have the port in the same place.
  int port = ntohs(reinterpret_cast<const sockaddr_in*>(found->ai_addr)->sin_port);
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    absl::StatusOr<OwnedFd> fd = ListenOn(*at, port);
    if (!fd.ok()) {
      refused = fd.status();
      if (refused.message() == std::strerror(EADDRINUSE)) return refused;
      continue;
    }
    port = PortOf(fd->get());
    listening.push_back(*std::move(fd));
  }
  if (listening.empty()) return refused;
  return listening;
}

}  // namespace

OwnedFd::OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
OwnedFd::~OwnedFd() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::unique_ptr<Door>> Door::Listen(const std::string& listen) {
  absl::StatusOr<std::vector<OwnedFd>> listening = ListenOnAll(listen);
  if (!listening.ok()) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", listen, ": ", listening.status().message()));
  }
  OwnedFd closing(eventfd(0, EFD_CLOEXEC));
  if (closing.get() < 0) return SystemError();
  const int port = PortOf(listening->front().get());
  return std::unique_ptr<Door>(new Door(*std::move(listening), std::move(closing), port));
}

void Door::Open(std::function<void(int listening, int accepted)> take, std::function<int()> look) {
  thread_ =
      std::jthread([this, take = std::move(take), look = std::move(look)] { Loop(take, look); });
}

void Door::Loop(const std::function<void(int, int)>& take, const std::function<int()>& look) const {
  std::vector<pollfd> watched = {{closing_.get(), POLLIN, 0}};
  for (const OwnedFd& fd : listening_) watched.push_back({fd.get(), POLLIN, 0});
  while (true) {
    if (poll(watched.data(), watched.size(), look()) < 0) continue;  // a signal
    if (watched[0].revents != 0) return;
    for (size_t i = 1; i < watched.size(); ++i) {
      if (watched[i].revents == 0) continue;
      const int fd = accept4(watched[i].fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        take(watched[i].fd, fd);
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        poll(watched.data(), 1, kPauseMs);
      }
    }
  }
}

void Door::Close() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    if (write(closing_.get(), &one, sizeof(one)) == sizeof(one)) thread_.join();
  }
  listening_.clear();
}

}  // namespace attnprune::rpc
