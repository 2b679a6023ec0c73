// Which certificates and keys are taken, and what is said of the others.
#include "tls/pem.h"

#include <string>
#include <utility>

#include "core/base/field_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/support/certificates.h"

namespace attnprune::tls {
namespace {

using ::testing::AllOf;
using testing::Authority;
using ::testing::HasSubstr;
using testing::Identity;

const PemFile kFile = {"tls_cert_file", "/x.pem"};

TEST(Pem, ReadsAllCertificatesOfAChainInOrder) {
  const Authority authority;
  const std::string chain = authority.Issue().certificate + authority.certificate();
  const auto certificates = ParseCertificates(kFile, chain);
  ASSERT_TRUE(certificates.ok()) << certificates.status();
  ASSERT_EQ(certificates->size(), 2);
  EXPECT_EQ(ParseCertificates(kFile, "words before\n" + chain)->size(), 2);
}

TEST(Pem, RefusesCertificatesNamingOptionRuleAndFile) {
  const Identity identity = Authority().Issue();
  const std::string half = identity.certificate.substr(0, identity.certificate.size() / 2);
  for (const auto& [text, reason] : {std::pair<std::string, const char*>("", "it has none"),
                                     {"no PEM at all", "it has none"},
                                     {identity.key, "it has none"},
                                     {half, "bad end line"},
                                     {identity.certificate + half, "bad end line"}}) {
    const auto read = ParseCertificates(kFile, text);
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(FieldAtFault(read.status()), "tls_cert_file");
    EXPECT_THAT(std::string(read.status().message()),
                AllOf(HasSubstr("must have certificates in PEM, got /x.pem"), HasSubstr(reason)));
  }
}

TEST(Pem, TakesAKeyThatNeedsNoPassphrase) {
  const Identity identity = Authority().Issue();
  EXPECT_TRUE(ParseKey(kFile, identity.key).ok());
  for (const std::string& text :
       {std::string(), identity.certificate, testing::Encrypted(identity.key)}) {
    const auto read = ParseKey(kFile, text);
    EXPECT_THAT(std::string(read.status().message()),
                HasSubstr("must have a private key in PEM, without a passphrase, got /x.pem"));
  }
}

TEST(Pem, TellsAKeyOfAnotherCertificate) {
  const Authority authority;
  const Identity one = authority.Issue(), other = authority.Issue();
  const auto certificates = ParseCertificates(kFile, one.certificate);
  const PemFile key_file = {"tls_key_file", "/y.pem"};
  const Key own = *ParseKey(key_file, one.key), foreign = *ParseKey(key_file, other.key);
  EXPECT_TRUE(CheckPair(*certificates->front(), kFile, *own, key_file).ok());
  const absl::Status status = CheckPair(*certificates->front(), kFile, *foreign, key_file);
  EXPECT_EQ(FieldAtFault(status), "tls_key_file");
  EXPECT_EQ(status.message(),
            "tls_key_file must have the key of the certificate in /x.pem, got /y.pem, which has "
            "another");
}

TEST(Pem, SaysWhyAFileCannotBeRead) {
  const TemporaryFolder folder;
  const std::string large = folder.path() + "/large";
  testing::WriteText(large, std::string((1 << 20) + 1, 'x'));
  for (const auto& [path, reason] :
       {std::pair<std::string, const char*>(folder.path() + "/none", "no such file"),
        {folder.path(), folder.path().c_str()},
        {large, "it has 1048577 bytes"}}) {
    const auto read = ReadPem({"ca_file", path});
    EXPECT_EQ(FieldAtFault(read.status()), "ca_file");
    EXPECT_THAT(
        std::string(read.status().message()),
        AllOf(HasSubstr("ca_file must be a file of at most 1048576 bytes that can be read, got"),
              HasSubstr(reason)));
  }
}

TEST(Pem, KnowsWhenACertificateIsValid) {
  const absl::Time from = absl::FromUnixSeconds(1'700'000'000), to = from + absl::Hours(1);
  const Identity identity = Authority().Issue(testing::kLoopbackNames, {.from = from, .to = to});
  const Validity validity = ValidityOf(*ParseCertificates(kFile, identity.certificate)->front());
  EXPECT_EQ(validity.from, from);
  EXPECT_EQ(validity.to, to);
}

}  // namespace
}  // namespace attnprune::tls
