#include "server/blobs/blob_store.h"

#include "tests/server/blobs/store_fixture.h"

namespace attnprune {
namespace {

using BlobStoreTest = StoreTest;

TEST_F(BlobStoreTest, GivesBackWhatWasPut) {
  const std::string bytes = RandomBytes(1000, 1);
  ASSERT_EQ(*store_->Put(bytes), Sha256Of(bytes));
  EXPECT_EQ(*store_->SizeOf(Sha256Of(bytes)), 1000);
  EXPECT_EQ(Stored(Sha256Of(bytes)), bytes);
  EXPECT_TRUE(store_->Verify(Sha256Of(bytes)).ok());
  Reopen();
  EXPECT_EQ(Stored(Sha256Of(bytes)), bytes);
}

TEST_F(BlobStoreTest, StoresTheSameBytesOnce) {
  const std::string bytes = RandomBytes(1000, 1);
  ASSERT_TRUE(store_->Put(bytes).ok());
  ASSERT_TRUE(store_->Put(bytes).ok());
  EXPECT_EQ(store_->Usage().blobs, 1);
  EXPECT_EQ(store_->Usage().blob_bytes, 1000);
  EXPECT_EQ(FilesIn(UploadsFolder()), 0);
}

TEST_F(BlobStoreTest, PutsResultsBeyondTheLimitsOfUploads) {
  options_.max_total_bytes = 10;
  options_.max_tensor_bytes = 10;
  Reopen();
  EXPECT_TRUE(store_->Put(RandomBytes(1000, 1)).ok());
}

TEST_F(BlobStoreTest, PutsNothingOfNothing) {
  EXPECT_TRUE(absl::IsInvalidArgument(store_->Put({}).status()));
}

TEST_F(BlobStoreTest, NamesTheTensorThatIsNotThere) {
  const std::string digest = Sha256Of(std::string("never stored"));
  const auto names_it = FailsWith(absl::StatusCode::kNotFound, digest);
  EXPECT_THAT(store_->SizeOf(digest).status(), names_it);
  EXPECT_THAT(store_->Map(digest, 12).status(), names_it);
  EXPECT_THAT(store_->OpenForReading(digest).status(), names_it);
  EXPECT_THAT(store_->Verify(digest), names_it);
}

TEST_F(BlobStoreTest, TakesNoPathForADigest) {
  WriteWhole(options_.folder + "/tensors/sha256/secret", "x");
  for (const char* path : {"", ".", "..", "../secret", "../../uploads"}) {
    EXPECT_TRUE(absl::IsNotFound(store_->SizeOf(path).status())) << path;
    EXPECT_TRUE(absl::IsNotFound(store_->Map(path, 1).status())) << path;
    EXPECT_TRUE(absl::IsNotFound(store_->OpenForReading(path).status())) << path;
    EXPECT_TRUE(absl::IsNotFound(store_->Verify(path))) << path;
  }
}

TEST_F(BlobStoreTest, FindsTheMissingInOrder) {
  const std::string a = *store_->Put(std::string("a")), b = Sha256Of(std::string("b")),
                    c = *store_->Put(std::string("c")), d = Sha256Of(std::string("d"));
  EXPECT_THAT(*store_->FindMissing({d, a, b, c, d}), testing::ElementsAre(d, b, d));
  EXPECT_THAT(store_->FindMissing({a, "x"}).status(),
              Refuses(absl::StatusCode::kInvalidArgument, "sha256[1]"));
}

TEST_F(BlobStoreTest, RefusesToMapAFileOfAnotherSize) {
  const std::string digest = *store_->Put(RandomBytes(100, 1));
  EXPECT_THAT(store_->Map(digest, 99).status(), FailsWith(absl::StatusCode::kDataLoss, digest));
}

TEST_F(BlobStoreTest, PutsAsideWhatChangedByOneBitAndTakesItAnew) {
  const std::string bytes = RandomBytes(20, 1), digest = Sha256Of(bytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    ASSERT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 0).ok());
    std::string spoiled = bytes;
    spoiled[i] = static_cast<char>(spoiled[i] ^ 1);
    WriteWhole(BlobPath(digest), spoiled);
    EXPECT_THAT(store_->Verify(digest), FailsWith(absl::StatusCode::kDataLoss, digest));
    EXPECT_FALSE(IsThere(digest));
    EXPECT_EQ(ReadWhole(options_.folder + "/tensors/corrupt/" + digest), spoiled);
    EXPECT_EQ(store_->Usage().blob_bytes, 0);
  }
}

TEST_F(BlobStoreTest, ReplacesATruncatedTensorByAnUpload) {
  const std::string bytes = RandomBytes(20, 1), digest = *store_->Put(bytes);
  WriteWhole(BlobPath(digest), bytes.substr(0, 7));
  Reopen();
  EXPECT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 0).ok());
  EXPECT_EQ(Stored(digest), bytes);
  EXPECT_EQ(store_->Usage().blob_bytes, 20);
}

TEST_F(BlobStoreTest, ReplacesATruncatedTensorByPuttingItAgain) {
  const std::string bytes = RandomBytes(20, 1), digest = *store_->Put(bytes);
  WriteWhole(BlobPath(digest), bytes.substr(0, 7));
  Reopen();
  EXPECT_TRUE(store_->Put(bytes).ok());
  EXPECT_EQ(Stored(digest), bytes);
  EXPECT_EQ(store_->Usage().blob_bytes, 20);
}

TEST_F(BlobStoreTest, ReportsATensorThatSomebodyRemovedAsMissing) {
  const std::string digest = *store_->Put(std::string("a"));
  std::filesystem::remove(BlobPath(digest));
  EXPECT_FALSE(IsThere(digest));
  EXPECT_THAT(store_->Map(digest, 1).status(), FailsWith(absl::StatusCode::kNotFound, digest));
}

TEST_F(BlobStoreTest, ReadsInPieces) {
  const std::string bytes = RandomBytes(100, 1);
  const absl::StatusOr<File> file = store_->OpenForReading(*store_->Put(bytes));
  std::string out(30, '\0');
  ASSERT_TRUE(file->ReadAt(60, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, bytes.substr(60, 30));
  EXPECT_TRUE(absl::IsDataLoss(file->ReadAt(71, absl::MakeSpan(out))));
}

TEST_F(BlobStoreTest, CannotOpenWhereAFileIs) {
  options_.folder = folder_.path() + "/file";
  WriteWhole(options_.folder, "x");
  EXPECT_THAT(BlobStore::Open(options_, &clock_).status(),
              FailsWith(absl::StatusCode::kInternal, options_.folder));
}

}  // namespace
}  // namespace attnprune
