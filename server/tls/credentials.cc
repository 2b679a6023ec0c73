#include "server/tls/credentials.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"

namespace attnprune::tls {
namespace {

constexpr char kCiphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";  // of TLS 1.2; of 1.3 OpenSSL's
constexpr unsigned char kSessionContext[] = "attnprune";    // sessions are resumed in it alone

PemFile CertificateFile(const CredentialFiles& files) {
  return {"tls_cert_file", files.certificate};
}
PemFile KeyFile(const CredentialFiles& files) { return {"tls_key_file", files.key}; }
PemFile ClientCaFile(const CredentialFiles& files) {
  return {"tls_client_ca_file", files.client_ca};
}

absl::Status Refused(const PemFile& file) {
  return MustError(file.field, "be of a kind that OpenSSL takes",
                   absl::StrCat(file.path, ": ", TakeOpensslReason()));
}

std::shared_ptr<SSL_CTX> NewContext() {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(context.get(), kCiphers);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_id_context(context.get(), kSessionContext, sizeof(kSessionContext) - 1);
  return context;
}

absl::Status AddCertificate(SSL_CTX* context, const std::vector<Certificate>& chain,
                            const PemFile& file) {
  if (SSL_CTX_use_certificate(context, chain.front().get()) != 1) return Refused(file);
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context, chain[i].get()) != 1) return Refused(file);
  }
  return absl::OkStatus();
}

absl::Status DemandClientCertificates(SSL_CTX* context, const std::vector<Certificate>& authorities,
                                      const PemFile& file) {
  for (const Certificate& authority : authorities) {
    const bool added = X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority.get()) == 1 &&
                       SSL_CTX_add_client_CA(context, authority.get()) == 1;
    if (!added) return Refused(file);
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CredentialTexts> ReadTexts(const CredentialFiles& files) {
  CredentialTexts texts;
  ATTNPRUNE_ASSIGN_OR_RETURN(texts.certificate, ReadPem(CertificateFile(files)));
  ATTNPRUNE_ASSIGN_OR_RETURN(texts.key, ReadPem(KeyFile(files)));
  if (files.client_ca.empty()) return texts;
  ATTNPRUNE_ASSIGN_OR_RETURN(texts.client_ca, ReadPem(ClientCaFile(files)));
  return texts;
}

absl::StatusOr<std::shared_ptr<const Credentials>> MakeCredentials(const CredentialFiles& files,
                                                                   CredentialTexts texts) {
  const PemFile certificate_file = CertificateFile(files), key_file = KeyFile(files);
  auto credentials = std::make_shared<Credentials>();
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                             ParseCertificates(certificate_file, texts.certificate));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Key key, ParseKey(key_file, texts.key));
  ATTNPRUNE_RETURN_IF_ERROR(CheckPair(*chain.front(), certificate_file, *key, key_file));
  credentials->validity = ValidityOf(*chain.front());
  credentials->context = NewContext();
  SSL_CTX* const context = credentials->context.get();
  ATTNPRUNE_RETURN_IF_ERROR(AddCertificate(context, chain, certificate_file));
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) return Refused(key_file);
  if (!files.client_ca.empty()) {
    const PemFile file = ClientCaFile(files);
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<Certificate> authorities,
                               ParseCertificates(file, texts.client_ca));
    ATTNPRUNE_RETURN_IF_ERROR(DemandClientCertificates(context, authorities, file));
  }
  credentials->texts = std::move(texts);
  return std::shared_ptr<const Credentials>(std::move(credentials));
}

}  // namespace attnprune::tls
