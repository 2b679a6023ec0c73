#include "tests/support/certificates.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>

namespace attnprune::testing {
namespace {

void Require(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "cannot make a certificate: " << what << ": " << tls::TakeOpensslReason() << "\n";
  std::abort();
}

tls::Key NewKey() {
  tls::Key key(EVP_EC_gen("P-256"));
  Require(key != nullptr, "key");
  return key;
}

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

std::string TextOf(const Bio& bio) {
  char* data = nullptr;
  const auto size = static_cast<size_t>(BIO_get_mem_data(bio.get(), &data));
  return {data, size};
}

std::string PemOf(X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()), &BIO_free);
  Require(PEM_write_bio_X509(bio.get(), certificate) == 1, "its PEM");
  return TextOf(bio);
}

std::string PemOf(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()), &BIO_free);
  Require(PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1,
          "its key's PEM");
  return TextOf(bio);
}

void AddExtension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension =
      X509V3_EXT_conf_nid(nullptr, &context, kind, const_cast<char*>(value.c_str()));
  Require(extension != nullptr, value.c_str());
  Require(X509_add_ext(certificate, extension, -1) == 1, value.c_str());
  X509_EXTENSION_free(extension);
}

// Unsigned yet.
tls::Certificate NewCertificate(const std::string& name, EVP_PKEY* key, const Lifetime& lifetime) {
  static std::atomic<int64_t> serial{1};
  tls::Certificate certificate(X509_new());
  X509_set_version(certificate.get(), X509_VERSION_3);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(certificate.get()), serial++);
  ASN1_TIME_set(X509_getm_notBefore(certificate.get()), absl::ToTimeT(lifetime.from));
  ASN1_TIME_set(X509_getm_notAfter(certificate.get()), absl::ToTimeT(lifetime.to));
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  Require(X509_set_pubkey(certificate.get(), key) == 1, "its public key");
  return certificate;
}

void Sign(X509* certificate, EVP_PKEY* key) {
  Require(X509_sign(certificate, key, EVP_sha256()) > 0, "its signature");
}

}  // namespace

Authority::Authority(const std::string& name) : key_(NewKey()) {
  self_ = NewCertificate(name, key_.get(), {});
  X509_set_issuer_name(self_.get(), X509_get_subject_name(self_.get()));
  AddExtension(self_.get(), self_.get(), NID_basic_constraints, "critical,CA:TRUE");
  Sign(self_.get(), key_.get());
  own_ = {PemOf(self_.get()), PemOf(key_.get())};
}

Identity Authority::Issue(const std::string& names, const Lifetime& lifetime) const {
  const tls::Key key = NewKey();
  const tls::Certificate certificate = NewCertificate("test", key.get(), lifetime);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(self_.get()));
  AddExtension(certificate.get(), self_.get(), NID_subject_alt_name, names);
  Sign(certificate.get(), key_.get());
  return {PemOf(certificate.get()), PemOf(key.get())};
}

std::string Encrypted(const std::string& key) {
  const Bio in(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())), &BIO_free);
  const tls::Key parsed(PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, nullptr));
  const Bio out(BIO_new(BIO_s_mem()), &BIO_free);
  unsigned char passphrase[] = "passphrase";
  Require(PEM_write_bio_PrivateKey(out.get(), parsed.get(), EVP_aes_256_cbc(), passphrase,
                                   sizeof(passphrase) - 1, nullptr, nullptr) == 1,
          "an encrypted key");
  return TextOf(out);
}

void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace attnprune::testing
