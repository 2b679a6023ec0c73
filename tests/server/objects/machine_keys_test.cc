// Keys from the address that a cloud's machine or container has for them.
#include "server/objects/machine_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "server/objects/s3_credentials.h"
#include "server/objects/s3_objects.h"
#include "tests/server/blobs/store_fixture.h"
#include "tests/server/objects/s3_server.h"

namespace attnprune {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string MachineJson(const std::string& id, absl::Time expires) {
  return absl::StrCat(R"({"Code": "Success", "AccessKeyId": ")", id,
                      R"(", "SecretAccessKey": "fleeting", "Token": "session/+=", "Expiration": ")",
                      absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", expires, absl::UTCTimeZone()), "\"}");
}

// The variables are the test's own: none of the machine's, and no address of it is asked.
class MachineKeysTest : public ::testing::Test {
 protected:
  MachineKeysTest() {
    for (const char* const name :
         {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
          "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
          "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
          "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
          "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
          "AWS_ENDPOINT_URL_STS", "AWS_REGION", "AWS_DEFAULT_REGION"}) {
      const char* const value = std::getenv(name);
      if (value != nullptr) before_[name] = value;
      unsetenv(name);
    }
    Set("AWS_EC2_METADATA_SERVICE_ENDPOINT", server_.endpoint() + "/");
  }
  ~MachineKeysTest() override {
    for (const std::string& name : set_) unsetenv(name.c_str());
    for (const auto& [name, value] : before_) setenv(name.c_str(), value.c_str(), 1);
  }
  void Set(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    set_.push_back(name);
  }
  absl::Status Open() { return OpenS3Objects(server_.Url("machine"), "").status(); }

  testing::S3Server server_;
  const TempFolder folder_;
  FakeClock clock_;

 private:
  std::map<std::string, std::string> before_;
  std::vector<std::string> set_;
};

TEST_F(MachineKeysTest, OfAnInstancesRoleAreTaken) {
  server_.SetMachineKeys(MachineJson("instance", absl::Now() + absl::Hours(6)));
  EXPECT_EQ(Open(), absl::OkStatus());
}

TEST_F(MachineKeysTest, OfAContainerAreTakenByItsToken) {
  server_.SetMachineKeys(MachineJson("container", absl::Now() + absl::Hours(6)));
  Set("AWS_EC2_METADATA_DISABLED", "true");
  Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", server_.endpoint() + "/container");
  EXPECT_THAT(std::string(Open().message()), HasSubstr("/container answers 401"));
  Set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod");
  EXPECT_EQ(Open(), absl::OkStatus());
  WriteWhole(folder_.path() + "/token", "pod\n");
  Set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong");
  Set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", folder_.path() + "/token");
  EXPECT_EQ(Open(), absl::OkStatus());
}

TEST_F(MachineKeysTest, OfARoleAreTakenForTheTokenThatAFileHas) {
  server_.SetMachineKeys(MachineJson("role", absl::Now() + absl::Hours(6)));
  Set("AWS_EC2_METADATA_DISABLED", "true");
  Set("AWS_ENDPOINT_URL_STS", server_.endpoint());
  Set("AWS_WEB_IDENTITY_TOKEN_FILE", folder_.path() + "/token");
  EXPECT_EQ(FieldAtFault(Open()), "blobs") << "there is no role";
  Set("AWS_ROLE_ARN", "arn:aws:iam::1:role/worker");
  EXPECT_THAT(std::string(Open().message()), HasSubstr("AWS_WEB_IDENTITY_TOKEN_FILE: "));
  WriteWhole(folder_.path() + "/token", "secret&Action=x\n");
  const std::string refused(Open().message());
  EXPECT_THAT(refused, AllOf(HasSubstr(server_.endpoint()), HasSubstr(" 400 InvalidIdentityToken"),
                             Not(HasSubstr("secret"))));
  WriteWhole(folder_.path() + "/token", "pod\n");  // which changes under a server that runs
  EXPECT_EQ(Open(), absl::OkStatus());
  Set("AWS_ROLE_ARN", "arn:aws:iam::1:role/other");
  EXPECT_THAT(std::string(Open().message()), HasSubstr(" 403 AccessDenied"));
}

TEST_F(MachineKeysTest, OfARoleComeFromTheRegionsStsByHttpsAlone) {
  Set("AWS_WEB_IDENTITY_TOKEN_FILE", folder_.path() + "/missing");
  Set("AWS_ROLE_ARN", "arn:aws:iam::1:role/worker");
  const auto endpoint = [] { return WebIdentity::FromEnvironment().value()->endpoint(); };
  EXPECT_EQ(endpoint(), "https://sts.amazonaws.com");
  Set("AWS_DEFAULT_REGION", "eu-west-1");
  EXPECT_EQ(endpoint(), "https://sts.eu-west-1.amazonaws.com");
  Set("AWS_REGION", "cn-north-1");
  EXPECT_EQ(endpoint(), "https://sts.cn-north-1.amazonaws.com.cn");
  Set("AWS_ENDPOINT_URL_STS", "https://sts.example.com");
  EXPECT_EQ(endpoint(), "https://sts.example.com");
  Set("AWS_ENDPOINT_URL_STS", "http://sts.example.com");
  EXPECT_EQ(FieldAtFault(WebIdentity::FromEnvironment().status()), "blobs");
}

TEST_F(MachineKeysTest, ComeAfterTheEnvironmentsAndAFiles) {
  server_.SetMachineKeys(MachineJson("instance", absl::Now() + absl::Hours(6)));
  Set("AWS_ACCESS_KEY_ID", "tester");
  Set("AWS_SECRET_ACCESS_KEY", "opensesame");
  EXPECT_EQ(S3Credentials::Load("")->Get()->id, "tester");
  EXPECT_EQ(S3Credentials::Load(server_.keys())->Get()->id, "tester");
}

TEST_F(MachineKeysTest, AreFetchedAnewBeforeTheyEnd) {
  const absl::Time end = clock_.Now() + absl::Hours(1);
  server_.SetMachineKeys(MachineJson("first", end));
  S3Credentials credentials = S3Credentials::Load("", &clock_).value();
  server_.SetMachineKeys(MachineJson("second", end + absl::Hours(1)));
  clock_.Advance(absl::Minutes(54));
  EXPECT_EQ(credentials.Get()->id, "first");
  clock_.Advance(absl::Minutes(2));
  EXPECT_EQ(credentials.Get()->id, "second");
}

TEST_F(MachineKeysTest, ServeToTheirEndWhereNoOthersCome) {
  server_.SetMachineKeys(MachineJson("last", clock_.Now() + absl::Hours(1)));
  S3Credentials credentials = S3Credentials::Load("", &clock_).value();
  server_.SetMachineKeys("");
  clock_.Advance(absl::Minutes(59));
  EXPECT_EQ(credentials.Get()->id, "last");
  clock_.Advance(absl::Minutes(2));
  EXPECT_THAT(credentials.Get().status(),
              FailsWith(absl::StatusCode::kUnavailable, "the keys have ended"));
  server_.SetMachineKeys(MachineJson("next", clock_.Now() + absl::Hours(1)));
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(credentials.Get()->id, "next");
}

TEST_F(MachineKeysTest, ThatAreNotThereAreToldWithTheAddress) {
  const absl::Status status = Open();
  EXPECT_EQ(FieldAtFault(status), "blobs");
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("must have keys"), HasSubstr(server_.endpoint())));
  Set("AWS_EC2_METADATA_DISABLED", "true");
  EXPECT_THAT(std::string(Open().message()), Not(HasSubstr(server_.endpoint())));
}

TEST_F(MachineKeysTest, AreAskedForInPlainTextOfThisMachineOnly) {
  for (const char* const url :
       {"http://example.com/keys", "http://127.0.0.1.example.com/keys", "ftp://127.0.0.1/keys",
        "http://127.0.0.1@example.com/keys", "http://127.0.0.1:80@example.com/keys"}) {
    Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    EXPECT_EQ(FieldAtFault(MachineKeys::FromEnvironment().status()), "blobs") << url;
  }
  for (const char* const url : {"https://example.com/keys", "http://[::1]:80/keys",
                                "http://169.254.170.23/v1/credentials", "http://localhost/keys"}) {
    Set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    EXPECT_TRUE(MachineKeys::FromEnvironment().ok()) << url;
  }
}

TEST(MachineKeysAnswer, IsTakenWithTwoWordsAndATimeOnly) {
  const S3Keys keys = ParseMachineKeys(R"({"AccessKeyId": "A", "SecretAccessKey": "s/+"})").value();
  EXPECT_EQ(keys.session_token, "");
  EXPECT_EQ(keys.expires, absl::InfiniteFuture());
  for (const char* const json :
       {"", "[]", "{}", R"({"AccessKeyId": "A"})", R"({"AccessKeyId": "A", "SecretAccessKey": ""})",
        R"({"AccessKeyId": "A\r\nX: y", "SecretAccessKey": "s"})",
        R"({"AccessKeyId": 7, "SecretAccessKey": "s"})",
        R"({"AccessKeyId": "A", "SecretAccessKey": "s", "Token": "a b"})",
        R"({"AccessKeyId": "A", "SecretAccessKey": "s", "Expiration": "soon"})"}) {
    EXPECT_FALSE(ParseMachineKeys(json).ok()) << json;
  }
}

TEST(WebIdentityAnswer, IsTakenWithAllThreeWordsAndATimeOnly) {
  const auto xml = [](const std::string& id, const std::string& token, const std::string& end) {
    return absl::StrCat("<R><Credentials><AccessKeyId>", id,
                        "</AccessKeyId><SecretAccessKey>s/+=</SecretAccessKey><SessionToken>",
                        token, "</SessionToken><Expiration>", end,
                        "</Expiration></Credentials></R>");
  };
  const S3Keys keys = ParseWebIdentityKeys(xml("A", "t/+=", "2026-12-01T00:00:00Z")).value();
  EXPECT_EQ(keys.id + " " + keys.secret + " " + keys.session_token, "A s/+= t/+=");
  EXPECT_EQ(keys.expires, absl::FromUnixSeconds(1'796'083'200));
  for (const std::string& wrong :
       {xml("", "t", ""), xml("A", "", ""), xml("A B", "t", ""), xml("A", "t", "soon"),
        std::string("<Credentials>"), std::string("{}"), std::string()}) {
    EXPECT_FALSE(ParseWebIdentityKeys(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace attnprune
