#include "server/web/login.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/access/rules.h"
#include "server/access/tokens.h"
#include "server/web/api_json.h"

namespace attnprune::web {
namespace {

absl::StatusOr<std::string> TokenIn(const std::string& body) {
  const nlohmann::json json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  const bool has_token =
      json.is_object() && json.size() == 1 && json.contains("token") && json["token"].is_string();
  if (!has_token) return FieldError("body", "must be {\"token\": \"…\"}");
  return json["token"].get<std::string>();
}

}  // namespace

std::string CookieOf(absl::string_view header, absl::string_view name) {
  std::string value;
  int found = 0;
  for (const absl::string_view part : absl::StrSplit(header, ';')) {
    const std::pair<absl::string_view, absl::string_view> sides =
        absl::StrSplit(absl::StripAsciiWhitespace(part), absl::MaxSplits('=', 1));
    if (sides.first != name) continue;
    ++found;
    value = std::string(sides.second);
  }
  return found == 1 ? value : "";
}

// Browsers let only TLS set the first.
std::string Login::CookieName() const {
  return https_ ? "__Host-attnprune_session" : "attnprune_session";
}

std::string Login::Cookie(absl::string_view id, absl::string_view more) const {
  return absl::StrCat(CookieName(), "=", id, "; Path=/; HttpOnly; SameSite=Strict",
                      https_ ? "; Secure" : "", more);
}

absl::StatusOr<access::Caller> Login::Identify(const http::Request& request) const {
  if (!request.authorization.empty()) {
    return gate_->Identify(access::BearerToken(request.authorization));
  }
  return gate_->IdentifyHash(sessions_.TokenHashOf(CookieOf(request.cookie, CookieName())));
}

absl::StatusOr<access::Caller> Login::Admit(http::Route route, const http::Request& request) const {
  const absl::string_view action = http::kRouteNames.at(static_cast<size_t>(route));
  if (access::IsOpen(action)) return access::Caller();
  ATTNPRUNE_ASSIGN_OR_RETURN(access::Caller caller, Identify(request));
  ATTNPRUNE_RETURN_IF_ERROR(access::Authorize(caller, action));
  const bool by_cookie = gate_->has_tokens() && request.authorization.empty();
  if (by_cookie && http::Changes(request.verb) && request.origin.empty()) {
    return absl::PermissionDeniedError(absl::StrCat("a ", http::VerbName(request.verb),
                                                    " by a session's cookie must have an Origin"));
  }
  return caller;
}

http::Response Login::WhoIs(const http::Request& request, const access::Caller& caller) const {
  const nlohmann::json who = {{"tokens", gate_->has_tokens()},
                              {"tenant", caller.tenant},
                              {"role", std::string(access::ToString(caller.role))},
                              {"name", caller.name}};
  return TextResponse(request, who.dump() + "\n", "application/json");
}

absl::StatusOr<http::Response> Login::Begin(const http::Request& request) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string token, TokenIn(request.body));
  ATTNPRUNE_ASSIGN_OR_RETURN(const access::Caller caller, gate_->Identify(token));
  http::Response response = WhoIs(request, caller);
  if (!gate_->has_tokens()) return response;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, sessions_.Begin(access::HashOfToken(token)));
  response.headers.emplace_back("Set-Cookie", Cookie(id, ""));
  return response;
}

absl::StatusOr<http::Response> Login::Answer(http::Route route, const http::Request& request) {
  if (route == http::Route::kSession && request.verb == http::Verb::kPost) return Begin(request);
  if (route == http::Route::kSession) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const access::Caller caller, Identify(request));
    return WhoIs(request, caller);
  }
  sessions_.End(CookieOf(request.cookie, CookieName()));
  http::Response response = TextResponse(request, "{}\n", "application/json");
  response.headers.emplace_back("Set-Cookie", Cookie("", "; Max-Age=0"));
  return response;
}

}  // namespace attnprune::web
