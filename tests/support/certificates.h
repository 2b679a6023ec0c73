// Certificates for tests, made on the spot.
#ifndef ATTNPRUNE_TESTS_SUPPORT_CERTIFICATES_H_
#define ATTNPRUNE_TESTS_SUPPORT_CERTIFICATES_H_

#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tls/pem.h"

namespace attnprune::testing {

inline constexpr char kLoopbackNames[] = "DNS:localhost,IP:127.0.0.1";

// In PEM.
struct Identity {
  std::string certificate, key;
};

struct Lifetime {
  absl::Time from = absl::Now() - absl::Hours(1), to = absl::Now() + absl::Hours(24);
};

// An elliptic key and a certificate of itself, which signs others.
class Authority {
 public:
  explicit Authority(const std::string& name = "test authority");

  const std::string& certificate() const { return own_.certificate; }
  // names: as OpenSSL writes a subjectAltName. Each call makes another key.
  Identity Issue(const std::string& names = kLoopbackNames, const Lifetime& lifetime = {}) const;

 private:
  tls::Key key_;
  tls::Certificate self_;
  Identity own_;
};

// `key` with a passphrase.
std::string Encrypted(const std::string& key);

void WriteText(const std::string& path, const std::string& text);

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SUPPORT_CERTIFICATES_H_
