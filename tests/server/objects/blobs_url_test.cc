// What --blobs takes and refuses; the keys' file; S3's XML.
#include "server/objects/blobs_url.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/field_error.h"
#include "server/objects/s3_credentials.h"
#include "server/objects/s3_xml.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(BlobsUrl, OfAFolderIsItsAbsolutePath) {
  const BlobsUrl url = *ParseBlobsUrl("file:///shared/folder/");
  EXPECT_EQ(url.folder, "/shared/folder");
  EXPECT_EQ(url.Name(), "file:///shared/folder");
}

TEST(BlobsUrl, OfABucketHasItsEndpointAndRegion) {
  const BlobsUrl url =
      *ParseBlobsUrl("s3://b.1/a/b_c/?endpoint=http://127.0.0.1:9000/&region=eu-1");
  EXPECT_EQ(url.bucket, "b.1");
  EXPECT_EQ(url.prefix, "a/b_c");
  EXPECT_EQ(url.endpoint, "http://127.0.0.1:9000");
  EXPECT_EQ(url.region, "eu-1");
  EXPECT_EQ(url.Name(), "s3://b.1/a/b_c");
}

TEST(BlobsUrl, DefaultsToAwsOfTheRegion) {
  EXPECT_EQ(ParseBlobsUrl("s3://b")->endpoint, "https://s3.us-east-1.amazonaws.com");
  EXPECT_EQ(ParseBlobsUrl("s3://b?region=eu-west-1")->endpoint,
            "https://s3.eu-west-1.amazonaws.com");
}

TEST(BlobsUrl, PutsTheBucketIntoThePathOrTheHostsName) {
  EXPECT_EQ(ParseBlobsUrl("s3://b.c/p?endpoint=https://h:1")->Root(), "https://h:1/b.c/");
  EXPECT_EQ(ParseBlobsUrl("s3://b?addressing=path")->Root(),
            "https://s3.us-east-1.amazonaws.com/b/");
  EXPECT_EQ(ParseBlobsUrl("s3://b?region=eu-1&addressing=virtual")->Root(),
            "https://b.s3.eu-1.amazonaws.com/");
  EXPECT_EQ(ParseBlobsUrl("s3://b.c/p?addressing=virtual&endpoint=http://h:1/")->Root(),
            "http://b.c.h:1/");
}

TEST(BlobsUrl, WhoseBucketCannotBeInTheHostsNameIsRefused) {
  for (const char* url :
       {"s3://b?addressing=virtual&endpoint=http://127.0.0.1:9000",
        "s3://b?addressing=virtual&endpoint=http://[::1]:9000",
        "s3://b?addressing=virtual&endpoint=http://[fe80::1]", "s3://b.c?addressing=virtual",
        "s3://b?addressing=", "s3://b?addressing=host"}) {
    const absl::Status status = ParseBlobsUrl(url).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << url;
    EXPECT_EQ(FieldAtFault(status), "blobs") << url;
  }
}

TEST(BlobsUrl, WithAnythingElseIsRefused) {
  for (const char* url :
       {"", "/shared", "file://shared", "file:///", "file:///a?b", "gs://b", "s3://", "s3:///p",
        "s3://b/../c", "s3://b//c", "s3://b/a b", "s3://b?endpoint=ftp://h",
        "s3://b?endpoint=", "s3://b?endpoint=http://user:secret@h", "s3://b?endpoint=http://h/path",
        "s3://b?region=", "s3://b?secret=x", "s3://b/p?endpoint=http://h&key=k"}) {
    const absl::Status status = ParseBlobsUrl(url).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << url;
    EXPECT_EQ(FieldAtFault(status), "blobs") << url;
  }
}

TEST(S3Keys, AreReadAsInTheAwsFile) {
  const S3Keys keys = *ParseS3Keys(
      "[default]\n aws_access_key_id = AK \nAWS_SECRET_ACCESS_KEY=a=b/+\nregion = x\n"
      "aws_session_token = tok\n");
  EXPECT_EQ(keys.id, "AK");
  EXPECT_EQ(keys.secret, "a=b/+");
  EXPECT_EQ(keys.session_token, "tok");
}

TEST(S3Keys, ThatAreNotThereAreNamedAndNothingIsQuoted) {
  const absl::Status status = ParseS3Keys("aws_secret_access_key = opensesame\n").status();
  EXPECT_EQ(FieldAtFault(status), "blobs_credentials_file");
  EXPECT_THAT(std::string(status.message()), HasSubstr("aws_access_key_id"));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("opensesame")));
}

TEST(S3Xml, GivesTheTextsOfElements) {
  const char xml[] = "<L><Key>a&amp;b</Key><X><Key>c&quot;</Key></X><Key>torn";
  EXPECT_THAT(XmlTexts(xml, "Key"), ElementsAre("a&b", "c\""));
  EXPECT_EQ(XmlText(xml, "Code"), "");
  EXPECT_EQ(XmlText("<Key>&amp;lt;</Key>", "Key"), "&lt;");
}

TEST(S3Xml, LetsOnlyPlainWordsIntoMessages) {
  EXPECT_EQ(S3Word("NoSuchKey\r\n<b>"), "NoSuchKeyb");
  EXPECT_EQ(S3Word(std::string(1000, 'x')).size(), 64u);
}

}  // namespace
}  // namespace attnprune
