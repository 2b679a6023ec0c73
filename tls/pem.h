// Certificates and private keys in PEM, read from files and checked. Errors are INVALID_ARGUMENT
// with the field, the rule and the file; none has any of a key.
#ifndef ATTNPRUNE_TLS_PEM_H_
#define ATTNPRUNE_TLS_PEM_H_

#include <openssl/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace attnprune::tls {

struct FreeCertificate {
  void operator()(X509* certificate) const;
};
struct FreeKey {
  void operator()(EVP_PKEY* key) const;
};
using Certificate = std::unique_ptr<X509, FreeCertificate>;
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

// A file and the option that names it, for errors: {"tls_cert_file", "/etc/attnprune/tls.crt"}.
struct PemFile {
  std::string field, path;
};

// The text of a regular file of at most 1 MiB.
absl::StatusOr<std::string> ReadPem(const PemFile& file);

// All certificates of the file's text, in order; at least one.
absl::StatusOr<std::vector<Certificate>> ParseCertificates(const PemFile& file,
                                                           const std::string& text);

// The first private key, which must not be encrypted: nobody is asked for a passphrase.
absl::StatusOr<Key> ParseKey(const PemFile& file, const std::string& text);

// Whether the key is that of the certificate.
absl::Status CheckPair(const X509& certificate, const PemFile& certificate_file,
                       const EVP_PKEY& key, const PemFile& key_file);

struct Validity {
  absl::Time from, to;
};
Validity ValidityOf(const X509& certificate);

// What OpenSSL says of the last failure on this thread, which is then forgotten.
std::string TakeOpensslReason();

}  // namespace attnprune::tls

#endif  // ATTNPRUNE_TLS_PEM_H_
