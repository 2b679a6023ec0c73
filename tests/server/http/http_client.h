// A small blocking HTTP client that can also say what no client should.
#ifndef ATTNPRUNE_TESTS_SERVER_HTTP_HTTP_CLIENT_H_
#define ATTNPRUNE_TESTS_SERVER_HTTP_HTTP_CLIENT_H_

#include <gtest/gtest.h>
#include <openssl/types.h>

#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace attnprune::http {

struct Received {
  int status = 0;                              // 0: the connection ended before an answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

struct ReceivedEvent {
  std::string id, event, data, comment;
};

// How a client meets TLS. PEM; the server is known by `authorities` and the address 127.0.0.1.
struct ClientTls {
  std::string authorities;
  std::string certificate, key;  // shown where they are asked for; empty: none
  int newest_version = 0;        // OpenSSL's number, such as TLS1_1_VERSION; 0: any
};

struct FreeTls {
  void operator()(SSL* connection) const;
};

// One connection to 127.0.0.1. Whatever does not come within kPatience fails the test.
class HttpClient {
 public:
  static constexpr int kPatienceSeconds = 60;

  // receive_buffer: bytes that the system takes for a client that does not read; 0: as usual.
  explicit HttpClient(int port, int receive_buffer = 0);
  // With its handshake, for which see tls_error.
  HttpClient(int port, const ClientTls& tls);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void Send(const std::string& bytes) const;
  // The next answer, by Content-Length; `head_only` after a HEAD.
  Received Receive(bool head_only = false);
  // Sends "VERB target HTTP/1.1" with Host: localhost and further header lines, and receives.
  Received Ask(const std::string& verb, const std::string& target, const std::string& headers = "",
               const std::string& body = "");
  Received Get(const std::string& target, const std::string& headers = "") {
    return Ask("GET", target, headers);
  }

  // A stream of events: asks, and returns the head without a body.
  Received Open(const std::string& target, const std::string& headers = "");
  // The next event or comment; nothing when the stream has ended as it should, with its last chunk.
  absl::optional<ReceivedEvent> Next();

  // Waits until the server closes.
  bool ClosedByServer();

  // OpenSSL's reason for the handshake's failure; empty: there was none.
  const std::string& tls_error() const { return tls_error_; }
  // Of the server's certificate, "" without TLS: tells one from another.
  std::string ServerSerial() const;
  // Whether the server has said that it ends TLS, before it closed.
  bool EndedInOrder() const;

 private:
  bool Fill();
  ssize_t SendSome(const char* bytes, size_t size) const;
  std::string TakeUntil(const std::string& end);
  std::string Take(size_t bytes);
  Received ReceiveHead();

  int fd_ = -1;
  std::unique_ptr<SSL, FreeTls> tls_;
  std::string tls_error_;
  std::string buffer_;  // received, not yet taken
  std::string events_;  // of the stream, without chunks, not yet taken
};

// Until `condition` holds, with the client's patience.
template <typename Condition>
void WaitFor(Condition condition) {
  const absl::Time end = absl::Now() + absl::Seconds(HttpClient::kPatienceSeconds);
  while (!condition()) {
    ASSERT_LT(absl::Now(), end);
    std::this_thread::yield();
  }
}

}  // namespace attnprune::http

#endif  // ATTNPRUNE_TESTS_SERVER_HTTP_HTTP_CLIENT_H_
