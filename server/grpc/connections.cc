#include "server/grpc/connections.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/grpc/received_bytes.h"

namespace attnprune::rpc {
namespace {

constexpr int64_t kStrangersBytes = 4 << 10;  // a handshake and the headers of some calls

// 0: it is closed, or no socket.
uint64_t SocketBehind(int fd) {
  struct stat facts;
  return fstat(fd, &facts) == 0 && S_ISSOCK(facts.st_mode) ? facts.st_ino : 0;
}

}  // namespace

std::string PeerOfSocket(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return absl::StrCat(text.data(), ":", ntohs(v4.sin_port));
  }
  if (address.ss_family != AF_INET6) return "";
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {  // gRPC says it so too
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text.data(), text.size());
    return absl::StrCat(text.data(), ":", ntohs(v6.sin6_port));
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  return absl::StrCat("[", text.data(), "]:", ntohs(v6.sin6_port));
}

bool Connections::IsOpen(const Connection& connection) {
  return SocketBehind(connection.fd) == connection.socket;
}

// Through a descriptor of its own, behind whose number no other socket can come meanwhile.
void Connections::ShutDown(const Connection& connection) {
  const int own = fcntl(connection.fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return;
  if (SocketBehind(own) == connection.socket) shutdown(own, SHUT_RDWR);
  close(own);
}

// Unlike after a shutdown, what nobody has read yet is gone, and no answer waits to be taken.
bool Connections::CloseIfItSentMuch(const Connection& connection) {
  const int own = fcntl(connection.fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return false;
  const bool much = SocketBehind(own) == connection.socket && ReceivedBytes(own) > kStrangersBytes;
  if (much) {
    sockaddr nobody{};
    nobody.sa_family = AF_UNSPEC;
    connect(own, &nobody, sizeof(nobody));
  }
  close(own);
  return much;
}

int64_t Connections::CloseStrangers() {
  const MutexLock lock(&mutex_);
  int64_t closed = 0;
  for (auto it = strangers_.begin(); it != strangers_.end();) {
    const auto stranger = by_age_.find(*it++);
    const bool goes = CloseIfItSentMuch(stranger->second);
    if (goes) ++closed;
    if (goes || !IsOpen(stranger->second)) Forget(stranger);
  }
  return closed;
}

bool Connections::HasStrangers() {
  const MutexLock lock(&mutex_);
  return !strangers_.empty();
}

bool Connections::Add(int fd) {
  const MutexLock lock(&mutex_);
  if (static_cast<int64_t>(by_age_.size()) >= most_) ForgetClosed();
  if (static_cast<int64_t>(by_age_.size()) >= most_) {
    const auto to_go = ToGo();
    if (to_go == by_age_.end()) return false;
    ShutDown(to_go->second);
    Forget(to_go);
  }
  Connection connection = {
      .fd = fd, .socket = SocketBehind(fd), .peer = PeerOfSocket(fd), .tenant = absl::nullopt};
  by_peer_[connection.peer] = next_;
  strangers_.insert(next_);
  by_age_[next_++] = std::move(connection);
  return true;
}

void Connections::LetIn(const std::string& peer, const std::string& tenant) {
  const MutexLock lock(&mutex_);
  const auto found = by_peer_.find(peer);
  if (found == by_peer_.end()) return;
  Connection& connection = by_age_.at(found->second);
  if (!connection.tenant.has_value()) strangers_.erase(found->second);
  connection.tenant = tenant;
}

void Connections::ForgetClosed() {
  for (auto it = by_age_.begin(); it != by_age_.end();) {
    const auto next = std::next(it);
    if (!IsOpen(it->second)) Forget(it);
    it = next;
  }
}

Connections::ByAge::iterator Connections::ToGo() {
  std::map<std::string, int64_t> of_tenant;
  for (auto it = by_age_.begin(); it != by_age_.end(); ++it) {
    if (!it->second.tenant.has_value()) return it;
    ++of_tenant[*it->second.tenant];
  }
  return std::find_if(by_age_.begin(), by_age_.end(), [&](const auto& entry) {
    return of_tenant[*entry.second.tenant] > most_ / 2;
  });
}

void Connections::Forget(ByAge::iterator connection) {
  const auto of_peer = by_peer_.find(connection->second.peer);
  if (of_peer != by_peer_.end() && of_peer->second == connection->first) by_peer_.erase(of_peer);
  strangers_.erase(connection->first);
  by_age_.erase(connection);
}

}  // namespace attnprune::rpc
