// Which tensors and uploads the collection takes, and which it must not.
#include <thread>

#include "tests/server/blobs/store_fixture.h"

namespace attnprune {
namespace {

constexpr absl::Duration kGrace = absl::Hours(1);
constexpr absl::Duration kTick = absl::Nanoseconds(1);

class CollectTest : public StoreTest {
 protected:
  Collected Collect(const std::unordered_set<std::string>& referenced = {}) {
    return store_->Collect(referenced, kGrace).value();
  }

  const std::string bytes_ = RandomBytes(100, 1);
  const std::string digest_ = store_->Put(bytes_).value();
};

TEST_F(CollectTest, TakesAnUnreferencedTensorWhenItsGraceIsOver) {
  clock_.Advance(kGrace);
  const Collected collected = Collect();
  EXPECT_EQ(collected.blobs, 1);
  EXPECT_EQ(collected.blob_bytes, 100);
  EXPECT_FALSE(IsThere(digest_));
  EXPECT_EQ(store_->Usage().blob_bytes, 0);
}

TEST_F(CollectTest, LeavesATensorInItsGrace) {
  clock_.Advance(kGrace - kTick);
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_F(CollectTest, LeavesAReferencedTensorHoweverOld) {
  clock_.Advance(absl::Hours(10000));
  EXPECT_EQ(Collect({digest_}).blobs, 0);
}

TEST_F(CollectTest, LeavesATensorWhenTheClockWentBack) {
  clock_.Advance(-absl::Hours(10000));
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_F(CollectTest, BeginsTheGraceAnewForWhatAClientWasToldToBeThere) {
  clock_.Advance(kGrace - kTick);
  EXPECT_TRUE(IsThere(digest_));
  clock_.Advance(kGrace - kTick);
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_F(CollectTest, BeginsTheGraceAnewForWhatIsUploadedAgain) {
  clock_.Advance(kGrace - kTick);
  EXPECT_TRUE(Start(SpecOf("a", bytes_), 0)->already_there());
  clock_.Advance(kGrace - kTick);
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_F(CollectTest, BeginsTheGraceAnewForAResultPutAgain) {
  clock_.Advance(kGrace - kTick);
  EXPECT_TRUE(store_->Put(bytes_).ok());
  clock_.Advance(kGrace - kTick);
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_F(CollectTest, BeginsTheGraceOfAnUploadWhenItIsFinished) {
  const std::string bytes = RandomBytes(100, 2);
  const std::unique_ptr<Upload> upload = Start(SpecOf("a", bytes), 0);
  clock_.Advance(kGrace);
  ASSERT_TRUE(upload->Append(bytes).ok());
  ASSERT_TRUE(upload->Finish().ok());
  EXPECT_EQ(Collect({digest_}).blobs, 0);
}

TEST_F(CollectTest, KnowsTheAgeAfterARestart) {
  clock_.Advance(kGrace - kTick);
  Reopen();
  EXPECT_EQ(Collect().blobs, 0);
  clock_.Advance(kTick);
  EXPECT_EQ(Collect().blobs, 1);
}

TEST_F(CollectTest, LeavesAMappedTensorReadable) {
  const absl::StatusOr<MappedFile> mapped = store_->Map(digest_, 100);
  clock_.Advance(kGrace);
  ASSERT_EQ(Collect().blobs, 1);
  EXPECT_EQ(std::string(mapped->bytes().begin(), mapped->bytes().end()), bytes_);
}

TEST_F(CollectTest, TakesAnUploadThatNobodyWentOnWith) {
  const std::string bytes = RandomBytes(100, 2);
  UploadPart(SpecOf("a", bytes), bytes, 60);
  clock_.Advance(kGrace - kTick);
  EXPECT_EQ(Collect({digest_}).uploads, 0);
  clock_.Advance(kTick);
  EXPECT_EQ(Collect({digest_}).uploads, 1);
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_EQ(FilesIn(UploadsFolder()), 0);
}

TEST_F(CollectTest, KnowsTheAgeOfAnUploadAfterARestart) {
  const std::string bytes = RandomBytes(100, 2);
  UploadPart(SpecOf("a", bytes), bytes, 60);
  clock_.Advance(kGrace - kTick);
  Reopen();
  EXPECT_EQ(Collect({digest_}).uploads, 0);
  clock_.Advance(kTick);
  EXPECT_EQ(Collect({digest_}).uploads, 1);
}

TEST_F(CollectTest, LeavesAnUploadThatIsBeingWritten) {
  const std::string bytes = RandomBytes(100, 2);
  std::unique_ptr<Upload> upload = Start(SpecOf("a", bytes), 0);
  clock_.Advance(absl::Hours(10000));
  EXPECT_EQ(Collect({digest_}).uploads, 0);
  ASSERT_TRUE(upload->Append(bytes).ok());
  upload = nullptr;
  EXPECT_EQ(Collect({digest_}).uploads, 0) << "its grace begins when it is left";
  EXPECT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 100).ok());
}

TEST_F(CollectTest, LeavesForeignFilesAlone) {
  const std::string foreign = BlobPath(digest_).substr(0, BlobPath(digest_).size() - 64) + "note";
  WriteWhole(foreign, "x");
  clock_.Advance(absl::Hours(10000));
  EXPECT_EQ(Collect().blobs, 1);
  EXPECT_TRUE(std::filesystem::exists(foreign));
}

TEST_F(CollectTest, NeverTakesWhatItTellsAClientToBeThereAtTheSameTime) {
  for (int round = 0; round < 100; ++round) {
    ASSERT_TRUE(store_->Put(bytes_).ok());
    clock_.Advance(kGrace);
    bool told_there = false;
    {
      const std::jthread client([&] { told_there = IsThere(digest_); });
      const std::jthread collector([&] { Collect(); });
    }
    EXPECT_EQ(told_there, store_->SizeOf(digest_).ok());
  }
}

TEST_F(CollectTest, RunsBesideUploadsOfTheSameTensor) {
  for (int round = 0; round < 20; ++round) {
    {
      const std::jthread collector([&] {
        clock_.Advance(2 * kGrace);
        Collect();
      });
      for (const char* id : {"a", "b"}) {
        EXPECT_TRUE(UploadFrom(SpecOf(id, bytes_), bytes_, 0).ok());
      }
    }
    const int64_t counted = store_->Usage().blob_bytes;
    EXPECT_EQ(counted, store_->SizeOf(digest_).ok() ? 100 : 0);
  }
}

}  // namespace
}  // namespace attnprune
