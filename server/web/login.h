// Who asks over HTTP: by a token in the header Authorization, or as a page that has logged in with
// one, by its session's cookie.
#ifndef ATTNPRUNE_SERVER_WEB_LOGIN_H_
#define ATTNPRUNE_SERVER_WEB_LOGIN_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "server/access/caller.h"
#include "server/access/gate.h"
#include "server/access/sessions.h"
#include "server/http/message.h"
#include "server/http/route.h"

namespace attnprune::web {

// Thread-safe. May wait for the disk (access::Gate).
class Login {
 public:
  // What is passed must outlive it. https: cookies are sent over TLS only.
  Login(const access::Gate* gate, const Clock* clock, bool https)
      : gate_(gate), sessions_(clock), https_(https) {}

  // Who may ask for the route. The header counts where there are both. UNAUTHENTICATED;
  // PERMISSION_DENIED: the role, or what changes something by a cookie without an Origin
  // (http/access.h has checked that it is our own).
  absl::StatusOr<access::Caller> Admit(http::Route route, const http::Request& request) const;

  // Answers kSession and kEndSession. POST {"token": "…"} begins a session: its cookie is HttpOnly,
  // SameSite=Strict and ends with the browser, the session after 12 hours or with its token. GET
  // says who asks: {"tokens": whether the server has any, "tenant", "role", "name"}.
  // INVALID_ARGUMENT: the body; UNAUTHENTICATED.
  absl::StatusOr<http::Response> Answer(http::Route route, const http::Request& request);

 private:
  absl::StatusOr<access::Caller> Identify(const http::Request& request) const;
  absl::StatusOr<http::Response> Begin(const http::Request& request);
  http::Response WhoIs(const http::Request& request, const access::Caller& caller) const;
  std::string CookieName() const;
  std::string Cookie(absl::string_view id, absl::string_view more) const;

  const access::Gate* const gate_;
  access::Sessions sessions_;
  const bool https_;
};

// The value of that name in a Cookie header ("a=1; b=2"); empty: it is not there, or there twice.
// Pure.
std::string CookieOf(absl::string_view header, absl::string_view name);

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_LOGIN_H_
