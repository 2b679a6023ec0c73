#include "client/library/security.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/library/status_details.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "tls/pem.h"

namespace attnprune::client {
namespace {

constexpr size_t kMaxTokenBytes = 512;

bool WantsTls(const ClientOptions& options) {
  return options.tls || !options.ca_file.empty() || !options.cert_file.empty() ||
         !options.key_file.empty();
}

absl::Status AddIdentity(const ClientOptions& options, grpc::SslCredentialsOptions& ssl) {
  if (options.cert_file.empty() && options.key_file.empty()) return absl::OkStatus();
  if (options.cert_file.empty() || options.key_file.empty()) {
    return FieldError(options.key_file.empty() ? "key_file" : "cert_file",
                      "must be given: a certificate and its key go together, got none");
  }
  const tls::PemFile certificate_file = {"cert_file", options.cert_file};
  const tls::PemFile key_file = {"key_file", options.key_file};
  ATTNPRUNE_ASSIGN_OR_RETURN(ssl.pem_cert_chain, tls::ReadPem(certificate_file));
  ATTNPRUNE_ASSIGN_OR_RETURN(ssl.pem_private_key, tls::ReadPem(key_file));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<tls::Certificate> chain,
                             tls::ParseCertificates(certificate_file, ssl.pem_cert_chain));
  ATTNPRUNE_ASSIGN_OR_RETURN(const tls::Key key, tls::ParseKey(key_file, ssl.pem_private_key));
  return tls::CheckPair(*chain.front(), certificate_file, *key, key_file);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> TlsChannel(const ClientOptions& options) {
  grpc::SslCredentialsOptions ssl;
  if (!options.ca_file.empty()) {
    const tls::PemFile file = {"ca_file", options.ca_file};
    ATTNPRUNE_ASSIGN_OR_RETURN(ssl.pem_root_certs, tls::ReadPem(file));
    ATTNPRUNE_RETURN_IF_ERROR(tls::ParseCertificates(file, ssl.pem_root_certs).status());
  }
  ATTNPRUNE_RETURN_IF_ERROR(AddIdentity(options, ssl));
  return grpc::SslCredentials(ssl);
}

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string text, tls::ReadPem({"token_file", path}));
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  const bool valid = !token.empty() && token.size() <= kMaxTokenBytes &&
                     absl::c_all_of(token, [](char c) { return absl::ascii_isgraph(c); });
  if (valid) return std::string(token);
  return FieldError("token_file", absl::StrCat("must have one line of 1 to ", kMaxTokenBytes,
                                               " printable ASCII characters without spaces, which ",
                                               path, " has not"));
}

std::string Authority(const ClientOptions& options) {
  return options.ca_file.empty() ? "the system's authorities"
                                 : absl::StrCat("the authorities in ", options.ca_file);
}

absl::Status ForGood(const absl::Status& error, absl::string_view why) {
  return MarkForGood(WithMessage(error, why));
}

}  // namespace

absl::StatusOr<Security> SecurityOf(const ClientOptions& options) {
  Security security;
  security.tls = WantsTls(options);
  security.channel = grpc::InsecureChannelCredentials();
  if (security.tls) {
    ATTNPRUNE_ASSIGN_OR_RETURN(security.channel, TlsChannel(options));
  }
  if (options.token_file.empty()) return security;
  if (!security.tls && !IsThisMachine(options.server)) {
    return FieldError("token_file",
                      absl::StrCat("must go with TLS (ca_file or tls) to a server on another "
                                   "machine, which would be sent it in plain text, got ",
                                   options.server));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string token, ReadToken(options.token_file));
  security.authorization = absl::StrCat("Bearer ", token);
  return security;
}

bool IsThisMachine(absl::string_view server) {
  if (absl::StartsWith(server, "unix:")) return true;
  absl::string_view host = server.substr(0, server.rfind(':'));
  if (absl::ConsumePrefix(&host, "[") && !absl::ConsumeSuffix(&host, "]")) return false;
  const std::string name(host);
  in6_addr address;
  if (inet_pton(AF_INET, name.c_str(), &address) == 1) return absl::StartsWith(name, "127.");
  if (inet_pton(AF_INET6, name.c_str(), &address) == 1) return IN6_IS_ADDR_LOOPBACK(&address);
  return absl::EqualsIgnoreCase(name, "localhost");
}

// gRPC 1.51 tells of a handshake by text alone, and OpenSSL's reason is in it.
absl::Status ExplainTls(const absl::Status& error, const ClientOptions& options, bool tls) {
  const absl::string_view said = error.message();
  const bool never_connected = absl::StartsWith(said, "failed to connect to all addresses");
  if (!absl::IsUnavailable(error) || !never_connected) return error;
  const std::string& server = options.server;
  if (absl::StrContains(said, "certificate verify failed")) {
    return ForGood(error, absl::StrCat(server, " has a certificate that is not of ",
                                       Authority(options), ", or not valid today"));
  }
  if (absl::StrContains(said, "is not in peer certificate")) {
    return ForGood(error, absl::StrCat("the certificate of ", server, " is for another name"));
  }
  if (absl::StrContains(said, "wrong version number")) {
    return ForGood(error, absl::StrCat(server, " speaks no TLS"));
  }
  if (!absl::StrContains(said, "Socket closed")) return error;
  if (!tls) {
    return WithMessage(error,
                       absl::StrCat(server, " closed the connection: it may speak TLS only, ",
                                    "for which ca_file or tls must be given"));
  }
  return WithMessage(
      error, absl::StrCat(server, " closed the connection: it may want a certificate ",
                          options.cert_file.empty() ? "(cert_file, key_file)"
                                                    : "of another authority, or one that is valid",
                          options.cert_file.empty() ? "" : " today"));
}

}  // namespace attnprune::client
