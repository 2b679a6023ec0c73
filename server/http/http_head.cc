#include "server/http/http_head.h"

#include <boost/beast/http/status.hpp>
#include <boost/beast/http/verb.hpp>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace attnprune::http {

namespace beast = boost::beast;

namespace {

Verb VerbOf(beast::http::verb verb) {
  switch (verb) {
    case beast::http::verb::get:
      return Verb::kGet;
    case beast::http::verb::head:
      return Verb::kHead;
    case beast::http::verb::post:
      return Verb::kPost;
    case beast::http::verb::put:
      return Verb::kPut;
    case beast::http::verb::delete_:
      return Verb::kDelete;
    default:
      return Verb::kOther;
  }
}

std::string Header(const RequestHead& message, const char* name) {
  const auto value = message[name];
  return {value.data(), value.size()};
}

// HTTP/1.1 needs one; of two, a proxy may have read either.
absl::Status CheckHost(const RequestHead& message) {
  const size_t hosts = message.count("Host");
  if (hosts > 1) return absl::InvalidArgumentError("there must be one Host header, got several");
  if (hosts == 1 || message.version() < 11) return absl::OkStatus();
  return absl::InvalidArgumentError("there must be a Host header");
}

// Any other coding than "chunked" alone would leave open where the body ends.
absl::Status CheckTransferEncoding(const RequestHead& message) {
  const size_t codings = message.count("Transfer-Encoding");
  if (codings == 0) return absl::OkStatus();
  const std::string coding = Header(message, "Transfer-Encoding");
  if (codings == 1 && absl::EqualsIgnoreCase(coding, "chunked")) return absl::OkStatus();
  return absl::InvalidArgumentError("Transfer-Encoding must be chunked alone");
}

// By it a page of another origin is told from our own: of two, a check may read either.
absl::Status CheckOrigin(const RequestHead& message) {
  if (message.count("Origin") <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError("there must be one Origin header at most, got several");
}

// Of two, a proxy may have let in either.
absl::Status CheckAuthorization(const RequestHead& message) {
  if (message.count("Authorization") <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError("there must be one Authorization header at most, got several");
}

int64_t BytesOf(const SharedBytes& body) {
  return body == nullptr ? 0 : static_cast<int64_t>(body->size());
}

}  // namespace

absl::Status CheckHead(const RequestHead& head) {
  absl::Status status = CheckHost(head);
  status.Update(CheckTransferEncoding(head));
  status.Update(CheckOrigin(head));
  status.Update(CheckAuthorization(head));
  return status;
}

Request ToRequest(const RequestHead& message) {
  Request request;
  request.verb = VerbOf(message.method());
  request.host = Header(message, "Host");
  request.origin = Header(message, "Origin");
  request.fetch_site = Header(message, "Sec-Fetch-Site");
  request.fetch_mode = Header(message, "Sec-Fetch-Mode");
  request.accept_encoding = Header(message, "Accept-Encoding");
  request.if_none_match = Header(message, "If-None-Match");
  request.last_event_id = Header(message, "Last-Event-ID");
  request.range = Header(message, "Range");
  request.request_id = Header(message, "X-Request-Id");
  request.traceparent = Header(message, "traceparent");
  request.authorization = Header(message, "Authorization");
  request.cookie = Header(message, "Cookie");
  request.http10 = message.version() < 11;
  return request;
}

bool ExpectsContinue(const RequestHead& message) {
  return message.version() >= 11 &&
         absl::EqualsIgnoreCase(Header(message, "Expect"), "100-continue");
}

std::string HeadOf(const Response& response, bool chunked, bool keep_alive) {
  const auto reason =
      beast::http::obsolete_reason(static_cast<beast::http::status>(response.status));
  std::string head = absl::StrCat(
      "HTTP/1.1 ", response.status, " ", absl::string_view(reason.data(), reason.size()),
      "\r\nDate: ", absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()),
      keep_alive ? "\r\n" : "\r\nConnection: close\r\n");
  if (!response.content_type.empty()) {
    absl::StrAppend(&head, "Content-Type: ", response.content_type, "\r\n");
  }
  for (const auto& [name, value] : response.headers) {
    absl::StrAppend(&head, name, ": ", value, "\r\n");
  }
  if (chunked) {
    absl::StrAppend(&head, "Transfer-Encoding: chunked\r\n");
  } else if (response.status != 204 && response.status != 304) {
    absl::StrAppend(&head, "Content-Length: ", response.length.value_or(BytesOf(response.body)),
                    "\r\n");
  }
  return absl::StrCat(head, "\r\n");
}

}  // namespace attnprune::http
