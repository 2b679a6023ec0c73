// A small blocking HTTP client that can also say what no client should.
#ifndef ATTNPRUNE_TESTS_SERVER_HTTP_HTTP_CLIENT_H_
#define ATTNPRUNE_TESTS_SERVER_HTTP_HTTP_CLIENT_H_

#include <gtest/gtest.h>

#include <map>
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

// One connection to 127.0.0.1. Whatever does not come within kPatience fails the test.
class HttpClient {
 public:
  static constexpr int kPatienceSeconds = 60;

  // receive_buffer: bytes that the system takes for a client that does not read; 0: as usual.
  explicit HttpClient(int port, int receive_buffer = 0);
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

 private:
  bool Fill();
  std::string TakeUntil(const std::string& end);
  std::string Take(size_t bytes);
  Received ReceiveHead();

  int fd_ = -1;
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
