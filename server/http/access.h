// Which requests the HTTP port refuses, and its security headers: the one place for both.
//
// Who asks is for access/gate.h. What must be kept out whoever asks, and where there are no tokens,
// are pages of other sites in a browser that reaches the port:
//
// DNS rebinding   evil.example resolves to 127.0.0.1, so that its script reads this server as its
//                 own. The Host header then is evil.example: only addresses, localhost and the
//                 names given with --http-host are taken.
// CSRF            a form or a script of another site posts here. Browsers then send Origin (and
//                 Sec-Fetch-Site): all but GET and HEAD is taken only from this server's own pages,
//                 or from programs that send neither, such as curl. By a session's cookie it needs
//                 Origin (web/login.h): browsers send it, and only they have cookies.
// embedding       other sites' scripts, frames and images get nothing: requests whose
//                 Sec-Fetch-Site is "cross-site" are refused unless they follow a link, and no
//                 CORS header is ever sent.
#ifndef ATTNPRUNE_SERVER_HTTP_ACCESS_H_
#define ATTNPRUNE_SERVER_HTTP_ACCESS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/http/message.h"

namespace attnprune::http {

// names: hosts that the port is reached by, beside addresses and localhost. PERMISSION_DENIED: says
// which of the rules above, and how to be let in. Pure.
absl::Status CheckAccess(const std::vector<std::string>& names, const Request& request);

// Sent with every answer: a page of this server loads nothing from elsewhere, runs no inline
// script, and is shown in no other site's frame.
const Pairs& SecurityHeaders();

// "localhost", "127.0.0.1" … and "[::1]", with or without brackets. Pure.
bool IsLoopbackHost(absl::string_view host);

// An IPv4 or IPv6 address, without brackets or port. Pure.
bool IsAddress(const std::string& host);

// Where a browser here finds what listens on HOST:PORT by a scheme: "http://127.0.0.1:8080/", of
// "::1:8080" "http://[::1]:8080/", and where every address is listened on "http://localhost:8080/".
// Pure.
std::string PageUrl(absl::string_view scheme, absl::string_view listen);

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_ACCESS_H_
