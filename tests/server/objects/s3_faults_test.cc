// An S3 server that is busy, away, elsewhere, or that refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "server/objects/s3_objects.h"
#include "tests/server/blobs/store_fixture.h"
#include "tests/server/objects/s3_server.h"

namespace attnprune {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class S3Faults : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<ObjectPlace>> Open(const BlobsUrl& url) const {
    return OpenS3Objects(url, server_.keys());
  }
  absl::Status Put(ObjectPlace& place, const std::string& name, const std::string& bytes) {
    const absl::Span<const char> pieces[] = {bytes};
    return place.Put(name, pieces);
  }
  absl::StatusOr<std::string> Get(ObjectPlace& place, const std::string& name) {
    std::string bytes;
    const absl::Status read = place.Read(name, [&](absl::Span<const char> piece) {
      bytes.append(piece.data(), piece.size());
      return absl::OkStatus();
    });
    if (!read.ok()) return read;
    return bytes;
  }

  testing::S3Server server_;
  const BlobsUrl url_ = server_.Url("faults");
};

TEST_F(S3Faults, ABusyServerIsAskedAgain) {
  const auto place = Open(url_).value();
  server_.SetFault(R"({"method": "PUT", "status": 503, "code": "SlowDown", "times": 2})");
  EXPECT_TRUE(Put(*place, "a", "bytes").ok());
  EXPECT_FALSE(server_.HasFault());
  EXPECT_EQ(*Get(*place, "a"), "bytes");
}

TEST_F(S3Faults, AConnectionThatIsCutIsMadeAnew) {
  const auto place = Open(url_).value();
  server_.SetFault(R"({"method": "PUT", "status": 0, "times": 2})");
  EXPECT_TRUE(Put(*place, "a", RandomBytes(1 << 20, 1)).ok());
}

TEST_F(S3Faults, AServerThatStaysBusyIsUnavailableByItsName) {
  const auto place = Open(url_).value();
  server_.SetFault(R"({"method": "PUT", "status": 500, "code": "InternalError", "times": 9})");
  EXPECT_THAT(Put(*place, "a", "bytes"), FailsWith(absl::StatusCode::kUnavailable, url_.endpoint));
}

TEST_F(S3Faults, AReadThatBreaksGoesOnWhereItWas) {
  const auto place = Open(url_).value();
  const std::string bytes = RandomBytes(3 << 20, 1);
  ASSERT_TRUE(Put(*place, "a", bytes).ok());
  server_.SetFault(R"({"method": "GET", "cut": 1000000, "times": 2})");
  EXPECT_TRUE(*Get(*place, "a") == bytes);
  EXPECT_FALSE(server_.HasFault());
}

TEST_F(S3Faults, AReadOfAServerThatSaysNothingEndsWhereThePlaceIsStopped) {
  const auto place = Open(url_).value();
  ASSERT_TRUE(Put(*place, "a", RandomBytes(1 << 20, 1)).ok());
  server_.SetFault(R"({"method": "GET", "hold": 1000})");
  std::jthread stops;
  const absl::Status read = place->Read("a", [&](absl::Span<const char>) {
    if (!stops.joinable()) stops = std::jthread([&] { place->Stop(); });
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsCancelled(read)) << read;
  EXPECT_TRUE(absl::IsCancelled(place->SizeOf("a").status()));
}

TEST_F(S3Faults, AServerThatIsAwayIsUnavailableAndThenBackAgain) {
  const auto place = Open(url_).value();
  server_.Stop();
  EXPECT_THAT(Put(*place, "a", "bytes"), FailsWith(absl::StatusCode::kUnavailable, url_.endpoint));
  EXPECT_THAT(place->Check(), FailsWith(absl::StatusCode::kUnavailable, "does not answer"));
  EXPECT_THAT(Open(url_).status(), FailsWith(absl::StatusCode::kUnavailable, url_.endpoint));
  server_.Start();
  EXPECT_TRUE(Put(*place, "a", "bytes").ok());
}

TEST_F(S3Faults, WrongKeysAreToldAtTheStartAndNeverShown) {
  const TempFolder folder;
  const std::string keys = folder.path() + "/keys";
  for (const auto& [id, secret, code] :
       {std::tuple("tester", "openbarley", "SignatureDoesNotMatch"),
        std::tuple("stranger", "opensesame", "InvalidAccessKeyId")}) {
    WriteWhole(keys, absl::StrCat("aws_access_key_id=", id, "\naws_secret_access_key=", secret));
    const absl::Status status = OpenS3Objects(url_, keys).status();
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("refuses the keys"), HasSubstr(code), HasSubstr(url_.endpoint)));
    EXPECT_THAT(status.ToString(), AllOf(Not(HasSubstr(secret)), Not(HasSubstr(id))));
  }
}

TEST_F(S3Faults, KeysThatAreExchangedAreTakenWithoutARestart) {
  const TempFolder folder;
  const std::string keys = folder.path() + "/keys";
  WriteWhole(keys, ReadWhole(server_.keys()));
  const auto place = OpenS3Objects(url_, keys).value();
  WriteWhole(keys, "aws_access_key_id = old\naws_secret_access_key = old\n");
  EXPECT_TRUE(absl::IsUnavailable(Put(*place, "a", "bytes")));
  WriteWhole(keys, ReadWhole(server_.keys()));
  EXPECT_TRUE(Put(*place, "a", "bytes").ok());
}

TEST_F(S3Faults, ABucketThatIsNotThereIsNamed) {
  BlobsUrl url = url_;
  url.bucket = "missing";
  EXPECT_THAT(Open(url).status(),
              FailsWith(absl::StatusCode::kFailedPrecondition, "there is no bucket missing"));
}

TEST_F(S3Faults, AnotherRegionIsToldWithTheRightOne) {
  BlobsUrl url = url_;
  url.region = "eu-west-1";
  EXPECT_THAT(Open(url).status(), FailsWith(absl::StatusCode::kFailedPrecondition,
                                            "must have region=us-east-1, got region=eu-west-1"));
  server_.SetFault(R"({"method": "GET", "status": 301, "code": "PermanentRedirect",
                       "headers": [["Location", "http://192.0.2.1/"],
                                   ["x-amz-bucket-region", "ap-1"]]})");
  EXPECT_THAT(Open(url_).status(),
              FailsWith(absl::StatusCode::kFailedPrecondition, "must have region=ap-1"));
}

TEST_F(S3Faults, ARefusalIsNotTriedAgain) {
  const auto place = Open(url_).value();
  server_.SetFault(R"({"method": "PUT", "status": 400, "code": "InvalidRequest", "times": 2})");
  EXPECT_THAT(Put(*place, "a", "bytes"),
              FailsWith(absl::StatusCode::kInternal, "answers 400 InvalidRequest"));
  EXPECT_TRUE(server_.HasFault());
}

TEST_F(S3Faults, AHostThatIsNoneIsToldAtTheStart) {
  BlobsUrl url = url_;
  url.endpoint = "http://127.0.0.1:1";
  EXPECT_THAT(Open(url).status(), FailsWith(absl::StatusCode::kUnavailable, "http://127.0.0.1:1"));
}

}  // namespace
}  // namespace attnprune
