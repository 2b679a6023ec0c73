// The heads of messages: requests as Beast parses them, answers as they are sent. Internal to this
// library. Pure.
#ifndef ATTNPRUNE_SERVER_HTTP_HTTP_HEAD_H_
#define ATTNPRUNE_SERVER_HTTP_HTTP_HEAD_H_

#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/message.hpp>
#include <string>

#include "absl/status/status.h"
#include "server/http/message.h"

namespace attnprune::http {

using RequestHead = boost::beast::http::request<boost::beast::http::buffer_body>;

// INVALID_ARGUMENT: what a proxy may have read otherwise: Host, Origin or Authorization more than
// once, or a Transfer-Encoding other than chunked.
absl::Status CheckHead(const RequestHead& head);

// But for path, query, peer and body.
Request ToRequest(const RequestHead& head);

// "Expect: 100-continue": the client waits for word before it sends the body.
bool ExpectsContinue(const RequestHead& head);

// The answer's, to its empty line. chunked: pieces of a stream follow, each as <hex
// length>\r\n<piece>\r\n, and the length 0 ends it.
std::string HeadOf(const Response& response, bool chunked, bool keep_alive);

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_HTTP_HEAD_H_
