// Which tensors and uploads the collection takes, and which it must not.
#include <thread>

#include "tests/server/blobs/blob_store_conformance.h"

namespace attnprune {
namespace {

constexpr absl::Duration kTick = absl::Nanoseconds(1);

TEST_P(CollectConformance, TakesAnUnreferencedTensorWhenItsGraceIsOver) {
  clock().Advance(kGrace);
  const Collected collected = Collect();
  EXPECT_EQ(collected.blobs, 1);
  EXPECT_EQ(collected.blob_bytes, 100);
  EXPECT_FALSE(IsThere(digest_));
  EXPECT_EQ(store().Usage().blob_bytes, 0);
}

TEST_P(CollectConformance, LeavesATensorInItsGrace) {
  clock().Advance(kGrace - kTick);
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_P(CollectConformance, LeavesAReferencedTensorHoweverOld) {
  clock().Advance(absl::Hours(10000));
  EXPECT_EQ(Collect({digest_}).blobs, 0);
}

TEST_P(CollectConformance, LeavesATensorWhenTheClockWentBack) {
  clock().Advance(-absl::Hours(10000));
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_P(CollectConformance, BeginsTheGraceAnewForWhatAClientWasToldToBeThere) {
  clock().Advance(kGrace - kTick);
  EXPECT_TRUE(IsThere(digest_));
  clock().Advance(kGrace - kTick);
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_P(CollectConformance, BeginsTheGraceAnewForWhatIsUploadedAgain) {
  clock().Advance(kGrace - kTick);
  EXPECT_TRUE(Start(SpecOf("a", bytes_), 0)->already_there());
  clock().Advance(kGrace - kTick);
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_P(CollectConformance, BeginsTheGraceAnewForAResultPutAgain) {
  clock().Advance(kGrace - kTick);
  EXPECT_TRUE(store().Put(bytes_).ok());
  clock().Advance(kGrace - kTick);
  EXPECT_EQ(Collect().blobs, 0);
}

TEST_P(CollectConformance, BeginsTheGraceOfAnUploadWhenItIsFinished) {
  const std::string bytes = RandomBytes(100, 2);
  const std::unique_ptr<Upload> upload = Start(SpecOf("a", bytes), 0);
  clock().Advance(kGrace);
  ASSERT_TRUE(upload->Append(bytes).ok());
  ASSERT_TRUE(upload->Finish().ok());
  EXPECT_EQ(Collect({digest_}).blobs, 0);
}

TEST_P(CollectConformance, KnowsTheAgeAfterARestart) {
  clock().Advance(kGrace - kTick);
  Reopen();
  EXPECT_EQ(Collect().blobs, 0);
  clock().Advance(kTick);
  EXPECT_EQ(Collect().blobs, 1);
}

TEST_P(CollectConformance, LeavesAMappedTensorReadable) {
  const absl::StatusOr<MappedFile> mapped = store().Map(digest_, 100);
  clock().Advance(kGrace);
  ASSERT_EQ(Collect().blobs, 1);
  EXPECT_EQ(std::string(mapped->bytes().begin(), mapped->bytes().end()), bytes_);
}

TEST_P(CollectConformance, TakesAnUploadThatNobodyWentOnWith) {
  const std::string bytes = RandomBytes(100, 2);
  UploadPart(SpecOf("a", bytes), bytes, 60);
  clock().Advance(kGrace - kTick);
  EXPECT_EQ(Collect({digest_}).uploads, 0);
  clock().Advance(kTick);
  EXPECT_EQ(Collect({digest_}).uploads, 1);
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(CollectConformance, KnowsTheAgeOfAnUploadAfterARestart) {
  const std::string bytes = RandomBytes(100, 2);
  UploadPart(SpecOf("a", bytes), bytes, 60);
  clock().Advance(kGrace - kTick);
  Reopen();
  EXPECT_EQ(Collect({digest_}).uploads, 0);
  clock().Advance(kTick);
  EXPECT_EQ(Collect({digest_}).uploads, 1);
}

TEST_P(CollectConformance, LeavesAnUploadThatIsBeingWritten) {
  const std::string bytes = RandomBytes(100, 2);
  std::unique_ptr<Upload> upload = Start(SpecOf("a", bytes), 0);
  clock().Advance(absl::Hours(10000));
  EXPECT_EQ(Collect({digest_}).uploads, 0);
  ASSERT_TRUE(upload->Append(bytes).ok());
  upload = nullptr;
  EXPECT_EQ(Collect({digest_}).uploads, 0) << "its grace begins when it is left";
  EXPECT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 100).ok());
}

TEST_P(CollectConformance, NeverTakesWhatItTellsAClientToBeThereAtTheSameTime) {
  for (int round = 0; round < 100; ++round) {
    ASSERT_TRUE(store().Put(bytes_).ok());
    clock().Advance(kGrace);
    bool told_there = false;
    {
      const std::jthread client([&] { told_there = IsThere(digest_); });
      const std::jthread collector([&] { Collect(); });
    }
    EXPECT_EQ(told_there, store().SizeOf(digest_).ok());
  }
}

TEST_P(CollectConformance, RunsBesideUploadsOfTheSameTensor) {
  for (int round = 0; round < 20; ++round) {
    {
      const std::jthread collector([&] {
        clock().Advance(2 * kGrace);
        Collect();
      });
      for (const char* id : {"a", "b"}) {
        EXPECT_TRUE(UploadFrom(SpecOf(id, bytes_), bytes_, 0).ok());
      }
    }
    const int64_t counted = store().Usage().blob_bytes;
    EXPECT_EQ(counted, store().SizeOf(digest_).ok() ? 100 : 0);
  }
}

}  // namespace
}  // namespace attnprune
