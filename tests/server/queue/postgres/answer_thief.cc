#include "tests/server/queue/postgres/answer_thief.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "absl/strings/string_view.h"
#include "tests/server/queue/postgres/test_program.h"

namespace attnprune::testing {
namespace {

constexpr char kSocket[] = "/.s.PGSQL.5432";
constexpr absl::string_view kCommit(
    "Q\0\0\0\x0b"
    "COMMIT\0",
    12);  // all of the message

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

template <typename Function>
int WithAddress(Function function, int fd, const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  return function(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// What has come, passed on unless `to` is -1; empty: the end.
std::string Move(int from, int to) {
  char bytes[65536];
  const ssize_t size = recv(from, bytes, sizeof bytes, 0);
  if (size <= 0) return "";
  const auto all = static_cast<size_t>(size);
  if (to >= 0 && send(to, bytes, all, MSG_NOSIGNAL) != size) return "";
  return {bytes, all};
}

}  // namespace

AnswerThief::AnswerThief(const std::string& server_folder)
    : server_socket_(server_folder + kSocket),
      folder_(TestProgram::MakeFolder()),
      listener_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (WithAddress(bind, listener_, folder_ + kSocket) != 0 || listen(listener_, 16) != 0) {
    GiveUp("cannot listen in " + folder_);
  }
  accepter_ = std::thread([this] { Accept(); });
}

AnswerThief::~AnswerThief() {
  stopping_ = true;
  shutdown(listener_, SHUT_RDWR);
  accepter_.join();
  close(listener_);
  const MutexLock lock(&mutex_);
  for (std::thread& passer : passers_) passer.join();
  std::filesystem::remove_all(folder_);
}

void AnswerThief::Accept() {
  while (!stopping_) {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    const MutexLock lock(&mutex_);
    passers_.emplace_back([this, client] { PassOn(client); });
  }
}

// Until one of the two ends it.
void AnswerThief::PassOn(int client) {
  const int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool open = WithAddress(connect, server, server_socket_) == 0;
  while (open) {
    pollfd both[] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    poll(both, 2, -1);
    if (both[0].revents != 0) {
      const std::string asked = Move(client, server);
      open = !asked.empty();
      if (asked == kCommit && armed_.exchange(false)) {
        open = false;
        if (!Move(server, -1).empty()) ++stolen_;
      }
    } else if (both[1].revents != 0) {
      open = !Move(server, client).empty();
    }
  }
  close(server);
  close(client);
}

}  // namespace attnprune::testing
