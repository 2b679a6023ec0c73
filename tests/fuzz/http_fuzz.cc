// Any bytes to the HTTP port over a socket: nothing, or answers, none of which says that the fault
// is the server's own (505, to HTTP/1.0 that asks for a stream, does not).
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "server/web/web_host.h"
#include "tests/fuzz/fuzz_backend.h"

namespace attnprune::fuzz {
namespace {

class Port {
 public:
  Port() {
    api::Backend& backend = SharedBackend();
    backend.Create(backend.GoodJob());
    web::WebOptions options;
    options.http.listen = "127.0.0.1:0";
    auto host = web::WebHost::Start(
        options, {.gate = gate_.get(),
                  .api = &backend.api(),
                  .runs = &backend.runs(),
                  .hub = &backend.hub(),
                  .tensors = &backend.tensors(),
                  .tensor_api = &backend.tensor_api(),
                  .metrics = &metrics_,
                  .metrics_text = [] { return std::string("attnprune_test 1\n"); }});
    if (!host.ok()) Find("no port", host.status());
    host_ = *std::move(host);
  }

  // Everything that is answered to `bytes`, after which nothing comes.
  std::string Answer(absl::string_view bytes) const {
    const int socket = Connect();
    while (!bytes.empty()) {
      const ssize_t sent = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) break;  // refused already
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    shutdown(socket, SHUT_WR);
    std::string answer;
    char piece[4096];
    ssize_t received = 0;
    while ((received = recv(socket, piece, sizeof(piece), 0)) > 0) {
      answer.append(piece, static_cast<size_t>(received));
    }
    close(socket);
    return answer;
  }

 private:
  static sockaddr_in Loopback(uint32_t host, uint16_t port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl((uint32_t{IN_LOOPBACKNET} << 24) | host);
    address.sin_port = htons(port);
    return address;
  }

  // A port that has been connected from is taken for a minute (TIME_WAIT) and an address has 28,000
  // of them: every 10,000th input moves on to the next address of the loopback network.
  int Connect() const {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in here = Loopback(1 + connections_++ / 10'000 % 250, 0);
    const sockaddr_in there = Loopback(1, static_cast<uint16_t>(host_->port()));
    if (bind(socket, reinterpret_cast<const sockaddr*>(&here), sizeof(here)) != 0 ||
        connect(socket, reinterpret_cast<const sockaddr*>(&there), sizeof(there)) != 0) {
      std::perror("http_fuzz: connection to the port");
      std::abort();
    }
    return socket;
  }

  mutable uint32_t connections_ = 0;
  const std::unique_ptr<access::Gate> gate_ = *access::Gate::Open({});
  http::WebMetrics metrics_;
  std::unique_ptr<web::WebHost> host_;
};

}  // namespace
}  // namespace attnprune::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const attnprune::fuzz::Port port;
  const std::string answer = port.Answer({reinterpret_cast<const char*>(data), size});
  if (answer.empty()) return 0;
  const absl::string_view head = absl::string_view(answer).substr(0, answer.find('\r'));
  const bool servers_fault =
      absl::StartsWith(head, "HTTP/1.1 5") && !absl::StartsWith(head, "HTTP/1.1 505 ");
  if (!absl::StartsWith(head, "HTTP/1.1 ") || servers_fault) {
    std::fprintf(stderr, "answered: %s\n", answer.c_str());
    std::abort();
  }
  return 0;
}
