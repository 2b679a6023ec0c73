// A folder with a server's certificate, its key and the authority of its clients.
#ifndef ATTNPRUNE_TESTS_SERVER_TLS_TLS_FILES_H_
#define ATTNPRUNE_TESTS_SERVER_TLS_TLS_FILES_H_

#include <string>

#include "tests/server/api/temporary_folder.h"
#include "tests/support/certificates.h"

namespace attnprune::tls {

class TlsFiles {
 public:
  TlsFiles() { Write(authority.Issue()); }

  std::string certificate() const { return folder_.path() + "/server.crt"; }
  std::string key() const { return folder_.path() + "/server.key"; }
  std::string client_ca() const { return folder_.path() + "/clients.crt"; }

  void Write(const testing::Identity& identity) const {
    testing::WriteText(certificate(), identity.certificate);
    testing::WriteText(key(), identity.key);
  }
  void AskClients(const testing::Authority& of) const {
    testing::WriteText(client_ca(), of.certificate());
  }

  const testing::Authority authority;

 private:
  const TemporaryFolder folder_;
};

}  // namespace attnprune::tls

#endif  // ATTNPRUNE_TESTS_SERVER_TLS_TLS_FILES_H_
