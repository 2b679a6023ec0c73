#include "tls/pem.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdint>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"

namespace attnprune::tls {
namespace {

constexpr int64_t kMaxBytes = 1 << 20;

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};

std::unique_ptr<BIO, FreeBio> BioOf(const std::string& text) {
  return std::unique_ptr<BIO, FreeBio>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Without it OpenSSL would ask on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, File::OpenForReading(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  if (size > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": it has ", size, " bytes"));
  }
  std::string text(static_cast<size_t>(size), '\0');
  ATTNPRUNE_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(text)));
  return text;
}

}  // namespace

void FreeCertificate::operator()(X509* certificate) const { X509_free(certificate); }
void FreeKey::operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }

std::string TakeOpensslReason() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown reason" : reason;
}

absl::StatusOr<std::string> ReadPem(const PemFile& file) {
  absl::StatusOr<std::string> text = ReadText(file.path);
  if (text.ok()) return text;
  return MustError(file.field,
                   absl::StrCat("be a file of at most ", kMaxBytes, " bytes that can be read"),
                   text.status().message());
}

absl::StatusOr<std::vector<Certificate>> ParseCertificates(const PemFile& file,
                                                           const std::string& text) {
  const auto bio = BioOf(text);
  std::vector<Certificate> certificates;
  ERR_clear_error();
  while (X509* const certificate = PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)) {
    certificates.emplace_back(certificate);
  }
  const bool at_the_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string reason = TakeOpensslReason();
  if (at_the_end && !certificates.empty()) return certificates;
  return MustError(file.field, "have certificates in PEM",
                   absl::StrCat(file.path, ": ", at_the_end ? "it has none" : reason));
}

absl::StatusOr<Key> ParseKey(const PemFile& file, const std::string& text) {
  const auto bio = BioOf(text);
  ERR_clear_error();
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  const std::string reason = TakeOpensslReason();
  if (key != nullptr) return key;
  return MustError(file.field, "have a private key in PEM, without a passphrase",
                   absl::StrCat(file.path, ": ", reason));
}

absl::Status CheckPair(const X509& certificate, const PemFile& certificate_file,
                       const EVP_PKEY& key, const PemFile& key_file) {
  const int fits = X509_check_private_key(&certificate, &key);
  ERR_clear_error();
  if (fits == 1) return absl::OkStatus();
  return MustError(key_file.field,
                   absl::StrCat("have the key of the certificate in ", certificate_file.path),
                   absl::StrCat(key_file.path, ", which has another"));
}

Validity ValidityOf(const X509& certificate) {
  return {.from = TimeOf(X509_get0_notBefore(&certificate)),
          .to = TimeOf(X509_get0_notAfter(&certificate))};
}

}  // namespace attnprune::tls
