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
          "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT"}) {
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
  const TempFolder folder;
  WriteWhole(folder.path() + "/token", "pod\n");
  Set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "wrong");
  Set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", folder.path() + "/token");
  EXPECT_EQ(Open(), absl::OkStatus());
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

}  // namespace
}  // namespace attnprune
