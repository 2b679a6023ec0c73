// The certificate of the server's ports: read from PEM files and checked as a whole.
#ifndef ATTNPRUNE_SERVER_TLS_CREDENTIALS_H_
#define ATTNPRUNE_SERVER_TLS_CREDENTIALS_H_

#include <openssl/types.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tls/pem.h"

namespace attnprune::tls {

struct CredentialFiles {
  std::string certificate;  // the server's, then those between it and its authority's
  std::string key;          // of the certificate
  std::string client_ca;    // clients must have a certificate of one of these; empty: need none
};

// Their texts.
struct CredentialTexts {
  std::string certificate, key, client_ca;
  bool operator==(const CredentialTexts&) const = default;
};

// Immutable.
struct Credentials {
  CredentialTexts texts;
  Validity validity;  // of the server's certificate
  // For servers, TLS 1.2 or later, with all of the above; asks clients for a certificate and
  // refuses those without where there is a client_ca.
  std::shared_ptr<SSL_CTX> context;
};

// INVALID_ARGUMENT naming the option (tls_cert_file, tls_key_file, tls_client_ca_file), the rule
// and the file.
absl::StatusOr<CredentialTexts> ReadTexts(const CredentialFiles& files);
// The same. `files` is for errors.
absl::StatusOr<std::shared_ptr<const Credentials>> MakeCredentials(const CredentialFiles& files,
                                                                   CredentialTexts texts);

}  // namespace attnprune::tls

#endif  // ATTNPRUNE_SERVER_TLS_CREDENTIALS_H_
