#include "tests/server/http/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace attnprune::http {

HttpClient::HttpClient(int port, int receive_buffer) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
  const timeval patience{kPatienceSeconds, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  if (receive_buffer > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int connected = connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  EXPECT_EQ(connected, 0) << "cannot connect to port " << port;
}

HttpClient::~HttpClient() { close(fd_); }

void HttpClient::Send(const std::string& bytes) const {
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t n = send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;  // the server has closed, which the answer will show
    sent += static_cast<size_t>(n);
  }
}

// False at the end of the connection.
bool HttpClient::Fill() {
  std::array<char, 16384> bytes;
  const ssize_t n = recv(fd_, bytes.data(), bytes.size(), 0);
  if (n < 0 && errno == EAGAIN) {
    ADD_FAILURE() << "nothing came for " << kPatienceSeconds << " s";
  }
  if (n > 0) buffer_.append(bytes.data(), static_cast<size_t>(n));
  return n > 0;
}

std::string HttpClient::TakeUntil(const std::string& end) {
  size_t found;
  while ((found = buffer_.find(end)) == std::string::npos) {
    if (!Fill()) return "";
  }
  return Take(found + end.size());
}

std::string HttpClient::Take(size_t bytes) {
  while (buffer_.size() < bytes) {
    if (!Fill()) return "";
  }
  std::string taken = buffer_.substr(0, bytes);
  buffer_.erase(0, bytes);
  return taken;
}

Received HttpClient::ReceiveHead() {
  Received received;
  const std::vector<std::string> lines = absl::StrSplit(TakeUntil("\r\n\r\n"), "\r\n");
  if (lines.front().size() < 12) return received;
  EXPECT_TRUE(absl::SimpleAtoi(lines.front().substr(9, 3), &received.status)) << lines.front();
  for (const std::string& line : lines) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    received.headers[absl::AsciiStrToLower(line.substr(0, colon))] = line.substr(colon + 2);
  }
  return received;
}

Received HttpClient::Receive(bool head_only) {
  Received received = ReceiveHead();
  size_t length = 0;
  const auto found = received.headers.find("content-length");
  if (found != received.headers.end()) {
    EXPECT_TRUE(absl::SimpleAtoi(found->second, &length));
  }
  if (!head_only) received.body = Take(length);
  return received;
}

Received HttpClient::Ask(const std::string& verb, const std::string& target,
                         const std::string& headers, const std::string& body) {
  const std::string length =
      body.empty() ? "" : absl::StrCat("Content-Length: ", body.size(), "\r\n");
  Send(absl::StrCat(verb, " ", target, " HTTP/1.1\r\nHost: localhost\r\n", headers, length, "\r\n",
                    body));
  return Receive(verb == "HEAD");
}

Received HttpClient::Open(const std::string& target, const std::string& headers) {
  Send(absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: localhost\r\n", headers, "\r\n"));
  return ReceiveHead();
}

absl::optional<ReceivedEvent> HttpClient::Next() {
  size_t end;
  while ((end = events_.find("\n\n")) == std::string::npos) {
    size_t length = 0;
    const std::string line = TakeUntil("\r\n");
    const bool chunk =
        !line.empty() && absl::SimpleHexAtoi(line.substr(0, line.size() - 2), &length);
    EXPECT_TRUE(chunk) << "the stream broke off: \"" << line << "\"";
    const std::string payload = Take(length + 2);
    if (!chunk || length == 0) return absl::nullopt;
    events_ += payload.substr(0, length);
  }
  ReceivedEvent event;
  for (const absl::string_view line : absl::StrSplit(events_.substr(0, end), '\n')) {
    const std::pair<std::string, std::string> sides =
        absl::StrSplit(line, absl::MaxSplits(": ", 1));
    if (sides.first == "id") event.id = sides.second;
    if (sides.first == "event") event.event = sides.second;
    if (sides.first == "data") event.data = sides.second;
    if (sides.first.empty()) event.comment = sides.second;
  }
  events_.erase(0, end + 2);
  return event;
}

bool HttpClient::ClosedByServer() {
  while (Fill()) {
  }
  return !::testing::Test::HasFailure();
}

}  // namespace attnprune::http
