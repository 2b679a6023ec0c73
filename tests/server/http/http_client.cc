#include "tests/server/http/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
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
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
Bio BioOf(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free);
}

void AddAuthorities(SSL_CTX* context, const std::string& pem) {
  const Bio bio = BioOf(pem);
  while (X509* const authority = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority);
    X509_free(authority);
  }
}

void AddIdentity(SSL_CTX* context, const ClientTls& tls) {
  X509* const certificate =
      PEM_read_bio_X509(BioOf(tls.certificate).get(), nullptr, nullptr, nullptr);
  EVP_PKEY* const key = PEM_read_bio_PrivateKey(BioOf(tls.key).get(), nullptr, nullptr, nullptr);
  EXPECT_EQ(SSL_CTX_use_certificate(context, certificate), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey(context, key), 1);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

// OpenSSL of this system refuses older versions by itself, at its security level 2.
SSL* NewTls(const ClientTls& tls) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  &SSL_CTX_free);
  AddAuthorities(context.get(), tls.authorities);
  if (!tls.certificate.empty()) AddIdentity(context.get(), tls);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (tls.newest_version != 0) {
    SSL_CTX_set_security_level(context.get(), 0);
    SSL_CTX_set_min_proto_version(context.get(), 0);
    SSL_CTX_set_max_proto_version(context.get(), tls.newest_version);
  }
  SSL* const connection = SSL_new(context.get());
  X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(connection), "127.0.0.1");
  return connection;
}

}  // namespace

void FreeTls::operator()(SSL* connection) const { SSL_free(connection); }

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

HttpClient::HttpClient(int port, const ClientTls& tls) : HttpClient(port) {
  tls_.reset(NewTls(tls));
  SSL_set_fd(tls_.get(), fd_);
  ERR_clear_error();
  if (SSL_connect(tls_.get()) == 1) return;
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  tls_error_ = reason == nullptr ? "closed" : reason;
}

HttpClient::~HttpClient() {
  tls_.reset();
  close(fd_);
}

ssize_t HttpClient::SendSome(const char* bytes, size_t size) const {
  if (tls_ == nullptr) return send(fd_, bytes, size, MSG_NOSIGNAL);
  return SSL_write(tls_.get(), bytes, static_cast<int>(size));
}

void HttpClient::Send(const std::string& bytes) const {
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t n = SendSome(bytes.data() + sent, bytes.size() - sent);
    if (n <= 0) return;  // the server has closed, which the answer will show
    sent += static_cast<size_t>(n);
  }
}

// False at the end of the connection.
bool HttpClient::Fill() {
  std::array<char, 16384> bytes;
  const ssize_t n = tls_ == nullptr
                        ? recv(fd_, bytes.data(), bytes.size(), 0)
                        : SSL_read(tls_.get(), bytes.data(), static_cast<int>(bytes.size()));
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

std::string HttpClient::ServerSerial() const {
  if (tls_ == nullptr) return "";
  X509* const certificate = SSL_get1_peer_certificate(tls_.get());
  int64_t serial = 0;
  ASN1_INTEGER_get_int64(&serial, X509_get0_serialNumber(certificate));
  X509_free(certificate);
  return absl::StrCat(serial);
}

bool HttpClient::EndedInOrder() const {
  return (SSL_get_shutdown(tls_.get()) & SSL_RECEIVED_SHUTDOWN) != 0;
}

bool HttpClient::ClosedByServer() {
  while (Fill()) {
  }
  return !::testing::Test::HasFailure();
}

}  // namespace attnprune::http
