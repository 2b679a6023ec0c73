// Finished tensors: stored once, given back, missed, verified, quarantined, replaced.
#include "tests/server/blobs/blob_store_conformance.h"

namespace attnprune {
namespace {

TEST_P(BlobConformance, ATailIsStoredBehindTheBytes) {
  const std::string digest = *store().Put(std::string("ab"), "c");
  EXPECT_EQ(digest, Sha256Of(std::string("abc")));
  EXPECT_EQ(*store().SizeOf(digest), 3);
}

TEST_P(BlobConformance, ARemovedTensorIsGoneAtOnceAndStaysReadableWhereItIsMapped) {
  const std::string bytes = RandomBytes(100, 1), digest = *store().Put(bytes);
  const MappedFile mapped = *store().Map(digest, 100);
  ASSERT_TRUE(store().Remove(digest).ok());
  EXPECT_TRUE(absl::IsNotFound(store().SizeOf(digest).status()));
  EXPECT_EQ(store().Usage().blobs, 0);
  EXPECT_EQ(std::string(mapped.bytes().begin(), mapped.bytes().end()), bytes);
  EXPECT_TRUE(store().Remove(digest).ok());
}

TEST_P(BlobConformance, GivesBackWhatWasPut) {
  const std::string bytes = RandomBytes(1000, 1);
  ASSERT_EQ(*store().Put(bytes), Sha256Of(bytes));
  EXPECT_EQ(*store().SizeOf(Sha256Of(bytes)), 1000);
  EXPECT_EQ(Stored(Sha256Of(bytes)), bytes);
  EXPECT_TRUE(store().Verify(Sha256Of(bytes)).ok());
  Reopen();
  EXPECT_EQ(Stored(Sha256Of(bytes)), bytes);
}

TEST_P(BlobConformance, StoresTheSameBytesOnce) {
  const std::string bytes = RandomBytes(1000, 1);
  ASSERT_TRUE(store().Put(bytes).ok());
  ASSERT_TRUE(store().Put(bytes).ok());
  EXPECT_EQ(store().Usage().blobs, 1);
  EXPECT_EQ(store().Usage().blob_bytes, 1000);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(BlobConformance, PutsResultsBeyondTheLimitsOfUploads) {
  limits_.max_total_bytes = 10;
  limits_.max_tensor_bytes = 10;
  Reopen();
  EXPECT_TRUE(store().Put(RandomBytes(1000, 1)).ok());
}

TEST_P(BlobConformance, PutsNothingOfNothing) {
  EXPECT_TRUE(absl::IsInvalidArgument(store().Put({}).status()));
}

TEST_P(BlobConformance, NamesTheTensorThatIsNotThere) {
  const std::string digest = Sha256Of(std::string("never stored"));
  const auto names_it = FailsWith(absl::StatusCode::kNotFound, digest);
  EXPECT_THAT(store().SizeOf(digest).status(), names_it);
  EXPECT_THAT(store().Map(digest, 12).status(), names_it);
  EXPECT_THAT(store().OpenForReading(digest).status(), names_it);
  EXPECT_THAT(store().Verify(digest), names_it);
}

TEST_P(BlobConformance, FindsTheMissingInOrder) {
  const std::string a = *store().Put(std::string("a")), b = Sha256Of(std::string("b")),
                    c = *store().Put(std::string("c")), d = Sha256Of(std::string("d"));
  EXPECT_THAT(*store().FindMissing({d, a, b, c, d}), ::testing::ElementsAre(d, b, d));
  EXPECT_THAT(store().FindMissing({a, "x"}).status(),
              Refuses(absl::StatusCode::kInvalidArgument, "sha256[1]"));
}

TEST_P(BlobConformance, RefusesToMapAFileOfAnotherSize) {
  const std::string digest = *store().Put(RandomBytes(100, 1));
  EXPECT_THAT(store().Map(digest, 99).status(), FailsWith(absl::StatusCode::kDataLoss, digest));
}

TEST_P(BlobConformance, QuarantinesWhatChangedByOneBitAndTakesItAnew) {
  const std::string bytes = RandomBytes(20, 1), digest = Sha256Of(bytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    ASSERT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 0).ok());
    std::string spoiled = bytes;
    spoiled[i] = static_cast<char>(spoiled[i] ^ 1);
    place().Spoil(digest, spoiled);
    EXPECT_THAT(store().Verify(digest), FailsWith(absl::StatusCode::kDataLoss, digest));
    EXPECT_FALSE(IsThere(digest));
    EXPECT_EQ(place().Quarantined(digest), spoiled);
    EXPECT_EQ(store().Usage().blob_bytes, 0);
  }
}

TEST_P(BlobConformance, ReplacesATruncatedTensorByAnUpload) {
  const std::string bytes = RandomBytes(20, 1), digest = *store().Put(bytes);
  place().Spoil(digest, bytes.substr(0, 7));
  Reopen();
  EXPECT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 0).ok());
  EXPECT_EQ(Stored(digest), bytes);
  EXPECT_EQ(store().Usage().blob_bytes, 20);
}

TEST_P(BlobConformance, ReplacesATruncatedTensorByPuttingItAgain) {
  const std::string bytes = RandomBytes(20, 1), digest = *store().Put(bytes);
  place().Spoil(digest, bytes.substr(0, 7));
  Reopen();
  EXPECT_TRUE(store().Put(bytes).ok());
  EXPECT_EQ(Stored(digest), bytes);
  EXPECT_EQ(store().Usage().blob_bytes, 20);
}

TEST_P(BlobConformance, ReportsATensorThatSomebodyRemovedAsMissing) {
  const std::string digest = *store().Put(std::string("a"));
  place().Lose(digest);
  EXPECT_FALSE(IsThere(digest));
  EXPECT_THAT(store().Map(digest, 1).status(), FailsWith(absl::StatusCode::kNotFound, digest));
}

TEST_P(BlobConformance, ReadsInPieces) {
  const std::string bytes = RandomBytes(100, 1);
  const std::unique_ptr<BlobReader> file = store().OpenForReading(*store().Put(bytes)).value();
  EXPECT_EQ(file->size(), 100);
  std::string out(30, '\0');
  ASSERT_TRUE(file->ReadAt(60, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, bytes.substr(60, 30));
  EXPECT_TRUE(absl::IsDataLoss(file->ReadAt(71, absl::MakeSpan(out))));
}

}  // namespace
}  // namespace attnprune
