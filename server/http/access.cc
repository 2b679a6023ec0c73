#include "server/http/access.h"

#include <arpa/inet.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace attnprune::http {
namespace {

// "", ":" or ":8080".
bool IsPortSuffix(absl::string_view text) {
  return text.empty() || (absl::ConsumePrefix(&text, ":") &&
                          std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return absl::ascii_isdigit(c); }));
}

// "name:8080" → "name", "[::1]:80" → "::1"; empty if it is not of that form.
std::string HostName(absl::string_view host) {
  const bool bracket = absl::ConsumePrefix(&host, "[");
  const size_t end = std::min(host.find(bracket ? ']' : ':'), host.size());
  const std::string name = absl::AsciiStrToLower(host.substr(0, end));
  host.remove_prefix(end);
  if (bracket && !absl::ConsumePrefix(&host, "]")) return "";
  return IsPortSuffix(host) ? name : "";
}

bool IsLocalhost(absl::string_view host) {
  return host == "localhost" || absl::EndsWith(host, ".localhost");
}

bool IsKnownHost(const std::vector<std::string>& names, const std::string& host) {
  return IsAddress(host) || IsLocalhost(host) ||
         std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return absl::EqualsIgnoreCase(name, host); });
}

// An Origin is scheme://host[:port]; behind a proxy the scheme may be https.
bool IsOwnOrigin(const Request& request) {
  absl::string_view origin = request.origin;
  const bool http = absl::ConsumePrefix(&origin, "http://");
  return (http || absl::ConsumePrefix(&origin, "https://")) &&
         absl::EqualsIgnoreCase(origin, request.host);
}

absl::Status CheckSite(const Request& request) {
  const bool link = !Changes(request.verb) && request.fetch_mode == "navigate";
  if (request.fetch_site == "cross-site" && !link) {
    return absl::PermissionDeniedError("requests from pages of other sites are refused");
  }
  if (!Changes(request.verb)) return absl::OkStatus();
  if (!request.origin.empty() && !IsOwnOrigin(request)) {
    return absl::PermissionDeniedError(
        absl::StrCat("Origin must be that of this server's own page for a ", VerbName(request.verb),
                     ", got \"", request.origin, "\""));
  }
  if (request.fetch_site == "same-site") {
    return absl::PermissionDeniedError(
        absl::StrCat("a ", VerbName(request.verb), " from a page of another origin is refused"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckAccess(const std::vector<std::string>& names, const Request& request) {
  if (!IsKnownHost(names, HostName(request.host))) {
    return absl::PermissionDeniedError(
        absl::StrCat("Host must be an address, localhost or a name given with --http-host, got \"",
                     request.host, "\""));
  }
  return CheckSite(request);
}

const Pairs& SecurityHeaders() {
  static const Pairs& headers = *new Pairs{
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
       "img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      {"Cross-Origin-Opener-Policy", "same-origin"}};
  return headers;
}

bool IsLoopbackHost(absl::string_view host) {
  const std::string name = HostName(absl::StrContains(host, "::") && !absl::StartsWith(host, "[")
                                        ? absl::StrCat("[", host, "]")
                                        : std::string(host));
  in6_addr address;
  if (inet_pton(AF_INET, name.c_str(), &address) == 1) return absl::StartsWith(name, "127.");
  if (inet_pton(AF_INET6, name.c_str(), &address) == 1) return IN6_IS_ADDR_LOOPBACK(&address);
  return name == "localhost";
}

bool IsAddress(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

std::string PageUrl(absl::string_view scheme, absl::string_view listen) {
  const size_t colon = listen.rfind(':');
  absl::string_view host = listen.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  const bool everywhere = host == "*" || host == "0.0.0.0" || host == "::";
  const bool brackets = !everywhere && absl::StrContains(host, ":");
  return absl::StrCat(scheme, "://", brackets ? "[" : "", everywhere ? "localhost" : host,
                      brackets ? "]" : "", listen.substr(colon), "/");
}

}  // namespace attnprune::http
