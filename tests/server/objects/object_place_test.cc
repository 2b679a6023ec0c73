// One suite for every place of objects.
#include "server/objects/object_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/objects/folder_objects.h"
#include "server/objects/s3_objects.h"
#include "tests/server/blobs/store_fixture.h"
#include "tests/server/objects/s3_server.h"

namespace attnprune {
namespace {

using ::testing::UnorderedElementsAre;

struct PlaceUnderTest {
  TempFolder folder;
  std::unique_ptr<ObjectPlace> place;
};
using PlaceFactory = std::function<void(PlaceUnderTest&)>;

class ObjectPlaceConformance : public ::testing::TestWithParam<PlaceFactory> {
 protected:
  ObjectPlaceConformance() { GetParam()(under_test_); }
  ObjectPlace& place() { return *under_test_.place; }

  absl::Status Put(const std::string& name, const std::string& bytes) {
    const absl::Span<const char> pieces[] = {bytes};
    return place().Put(name, pieces);
  }
  std::string Get(const std::string& name) {
    std::string bytes;
    const absl::Status read = place().Read(name, [&](absl::Span<const char> piece) {
      bytes.append(piece.data(), piece.size());
      return absl::OkStatus();
    });
    return read.ok() ? bytes : read.ToString();
  }
  std::string PutPart(const std::string& name, const std::string& writing, int part, int64_t offset,
                      const std::string& bytes) {
    const absl::Span<const char> pieces[] = {bytes};
    const auto put = place().PutPart(name, writing, part, offset, pieces);
    EXPECT_TRUE(put.ok()) << put.status();
    return put.value_or("");
  }

 private:
  PlaceUnderTest under_test_;
};

TEST_P(ObjectPlaceConformance, GivesBackWhatWasPutInPieces) {
  const std::string bytes = RandomBytes(3 << 20, 1);
  const absl::Span<const char> pieces[] = {absl::MakeConstSpan(bytes).subspan(0, 7),
                                           absl::Span<const char>(),
                                           absl::MakeConstSpan(bytes).subspan(7)};
  ASSERT_TRUE(place().Put("a/b/c.1", pieces).ok());
  EXPECT_EQ(*place().SizeOf("a/b/c.1"), 3 << 20);
  EXPECT_TRUE(Get("a/b/c.1") == bytes);
}

TEST_P(ObjectPlaceConformance, ReplacesAndRemoves) {
  ASSERT_TRUE(Put("a/x", "one").ok());
  ASSERT_TRUE(Put("a/x", "two!").ok());
  EXPECT_EQ(Get("a/x"), "two!");
  ASSERT_TRUE(place().Remove("a/x").ok());
  EXPECT_TRUE(absl::IsNotFound(place().SizeOf("a/x").status()));
  EXPECT_TRUE(place().Remove("a/x").ok()) << "an absent one is fine";
}

TEST_P(ObjectPlaceConformance, SaysThatAnObjectIsNotThere) {
  EXPECT_TRUE(absl::IsNotFound(place().SizeOf("none/x").status()));
  EXPECT_TRUE(absl::IsNotFound(
      place().Read("none/x", [](absl::Span<const char>) { return absl::OkStatus(); })));
}

TEST_P(ObjectPlaceConformance, StopsReadingWhereTheReaderSays) {
  ASSERT_TRUE(Put("a/x", RandomBytes(4 << 20, 1)).ok());
  const absl::Status read =
      place().Read("a/x", [](absl::Span<const char>) { return absl::DataLossError("enough"); });
  EXPECT_EQ(read, absl::DataLossError("enough"));
}

TEST_P(ObjectPlaceConformance, ListsAFolderHoweverLong) {
  for (const char* name : {"c/1", "c/2", "c/d/3", "c/4", "c/5", "c/6", "c/7", "other/8", "c9"}) {
    ASSERT_TRUE(Put(name, "x").ok());
  }
  EXPECT_THAT(*place().List("c"), UnorderedElementsAre("1", "2", "d/3", "4", "5", "6", "7"));
  EXPECT_THAT(*place().List("none"), UnorderedElementsAre());
}

TEST_P(ObjectPlaceConformance, PutsPartsTogether) {
  const std::string bytes = RandomBytes(20 << 20, 1);
  const int64_t part = place().PartBytes(static_cast<int64_t>(bytes.size()));
  const std::string writing = *place().BeginParts("t/x");
  std::vector<std::string> parts;
  for (size_t from = 0; from < bytes.size(); from += static_cast<size_t>(part)) {
    parts.push_back(PutPart("t/x", writing, static_cast<int>(parts.size()),
                            static_cast<int64_t>(from),
                            bytes.substr(from, static_cast<size_t>(part))));
  }
  EXPECT_TRUE(absl::IsNotFound(place().SizeOf("t/x").status())) << "before it is complete";
  ASSERT_TRUE(place().CompleteParts("t/x", writing, parts).ok());
  EXPECT_TRUE(Get("t/x") == bytes);
  EXPECT_TRUE(place().CompleteParts("t/x", writing, parts).ok()) << "once more";
  EXPECT_THAT(*place().List("t"), UnorderedElementsAre("x"));
}

TEST_P(ObjectPlaceConformance, AbandonedPartsAreGone) {
  const std::string writing = *place().BeginParts("t/x");
  const std::string part = PutPart("t/x", writing, 0, 0, "bytes");
  ASSERT_TRUE(place().AbandonParts("t/x", writing).ok());
  EXPECT_TRUE(place().AbandonParts("t/x", writing).ok());
  EXPECT_TRUE(absl::IsNotFound(place().CompleteParts("t/x", writing, {part})));
  EXPECT_THAT(*place().List("t"), UnorderedElementsAre());
}

void OpenFolder(PlaceUnderTest& test) {
  test.place = OpenFolderObjects(test.folder.path() + "/objects").value();
}
void OpenBucket(PlaceUnderTest& test) {
  const testing::S3Server& server = testing::S3Server::Shared();
  const std::string prefix = test.folder.path().substr(test.folder.path().rfind('/') + 1);
  test.place = OpenS3Objects(server.Url(prefix), server.keys()).value();
}
// libcurl takes each name below localhost for this machine.
void OpenBucketInHost(PlaceUnderTest& test) {
  const testing::S3Server& server = testing::S3Server::Shared();
  BlobsUrl url = server.Url(test.folder.path().substr(test.folder.path().rfind('/') + 1));
  url.endpoint = absl::StrCat("http://localhost", url.endpoint.substr(url.endpoint.rfind(':')));
  url.bucket_in_host = true;
  test.place = OpenS3Objects(url, server.keys()).value();
}
INSTANTIATE_TEST_SUITE_P(Folder, ObjectPlaceConformance, ::testing::Values(OpenFolder),
                         [](const auto&) { return "Place"; });
INSTANTIATE_TEST_SUITE_P(S3, ObjectPlaceConformance, ::testing::Values(OpenBucket),
                         [](const auto&) { return "Place"; });

INSTANTIATE_TEST_SUITE_P(S3InHost, ObjectPlaceConformance, ::testing::Values(OpenBucketInHost),
                         [](const auto&) { return "Place"; });

TEST(S3Objects, HaveAtMostTenThousandParts) {
  const testing::S3Server& server = testing::S3Server::Shared();
  const auto place = OpenS3Objects(server.Url(""), server.keys()).value();
  EXPECT_EQ(place->PartBytes(1), 8 << 20);
  for (const int64_t size :
       {int64_t{80'000} << 20, (int64_t{80'000} << 20) + 1, int64_t{1} << 40}) {
    EXPECT_GE(place->PartBytes(size) * 10'000, size);
  }
}

TEST(FolderObjects, ThatAreMovedAwayAreUnavailableNotMissing) {
  const TempFolder folder;
  const std::string path = folder.path() + "/objects";
  const auto place = OpenFolderObjects(path).value();
  const std::string bytes = "x";
  const absl::Span<const char> pieces[] = {bytes};
  ASSERT_TRUE(place->Put("a/x", pieces).ok());
  std::filesystem::rename(path, path + ".away");
  EXPECT_TRUE(absl::IsUnavailable(place->Check()));
  EXPECT_TRUE(absl::IsUnavailable(place->Put("a/y", pieces)));
  EXPECT_TRUE(absl::IsUnavailable(place->SizeOf("a/x").status()));
  EXPECT_FALSE(std::filesystem::exists(path)) << "nothing is made in its place";
  std::filesystem::rename(path + ".away", path);
  EXPECT_TRUE(place->Check().ok());
  EXPECT_EQ(*place->SizeOf("a/x"), 1);
}

TEST(FolderObjects, WhatAKillLeftOfAPutGoesWithTheObject) {
  const TempFolder folder;
  const auto place = OpenFolderObjects(folder.path() + "/objects").value();
  std::filesystem::create_directory(folder.path() + "/objects/a");
  WriteWhole(folder.path() + "/objects/a/x.tmp-123", "half");
  WriteWhole(folder.path() + "/objects/a/xy.tmp-123", "another's");
  ASSERT_TRUE(place->Remove("a/x").ok());
  EXPECT_THAT(*place->List("a"), UnorderedElementsAre("xy.tmp-123"));
}

}  // namespace
}  // namespace attnprune
