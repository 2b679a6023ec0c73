#include "server/tls/credentials.h"

#include <string>

#include "core/base/field_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/tls/tls_files.h"

namespace attnprune::tls {
namespace {

using testing::Authority;
using ::testing::HasSubstr;

absl::StatusOr<std::shared_ptr<const Credentials>> Load(const CredentialFiles& files) {
  auto texts = ReadTexts(files);
  if (!texts.ok()) return texts.status();
  return MakeCredentials(files, *std::move(texts));
}

TEST(Credentials, TakesAPairWithAndWithoutClientsAuthorities) {
  const TlsFiles files;
  const auto plain = Load({files.certificate(), files.key(), ""});
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_NE((*plain)->context, nullptr);
  files.AskClients(Authority("of clients"));
  const auto mutual = Load({files.certificate(), files.key(), files.client_ca()});
  ASSERT_TRUE(mutual.ok()) << mutual.status();
  EXPECT_THAT((*mutual)->texts.client_ca, HasSubstr("BEGIN CERTIFICATE"));
}

TEST(Credentials, NamesTheOptionThatIsAtFault) {
  const TlsFiles files;
  const auto field = [](const CredentialFiles& given) {
    return FieldAtFault(Load(given).status());
  };
  EXPECT_EQ(field({files.key(), files.key(), ""}), "tls_cert_file");
  EXPECT_EQ(field({files.certificate() + ".none", files.key(), ""}), "tls_cert_file");
  EXPECT_EQ(field({files.certificate(), files.certificate(), ""}), "tls_key_file");
  EXPECT_EQ(field({files.certificate(), files.key(), files.client_ca()}), "tls_client_ca_file");
  testing::WriteText(files.client_ca(), "no certificate");
  EXPECT_EQ(field({files.certificate(), files.key(), files.client_ca()}), "tls_client_ca_file");
  testing::WriteText(files.key(), files.authority.Issue().key);
  EXPECT_EQ(field({files.certificate(), files.key(), ""}), "tls_key_file");
}

}  // namespace
}  // namespace attnprune::tls
