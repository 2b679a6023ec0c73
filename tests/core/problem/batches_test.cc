#include "core/problem/batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

namespace attnprune {
namespace {

// Batch a of 2 tokens, batch b of 1: [[1, 2], [3, 4]] and [[5, 6]].
std::vector<Matrix> TwoBatches() {
  std::vector<Matrix> batches;
  batches.emplace_back(2, 2);
  batches.emplace_back(1, 2);
  float value = 1;
  for (Matrix& batch : batches) {
    for (float& x : batch.flat()) x = value++;
  }
  return batches;
}

TEST(Batches, StackBatchesOfDifferentLengthsBelowEachOther) {
  const Batches batches = Batches::Stack(TwoBatches());
  EXPECT_EQ(batches.count(), 2);
  EXPECT_EQ(batches.features(), 2);
  EXPECT_EQ(batches.total_tokens(), 3);
  EXPECT_EQ(batches.longest(), 2);
  EXPECT_EQ(batches.begin(1), 2);
  EXPECT_EQ(batches.length(1), 1);
  EXPECT_EQ(batches.batch(0)(1, 0), 3);
  EXPECT_EQ(batches.batch(1)(0, 1), 6);
}

TEST(Batches, AreNoneByDefaultAndOfAnEmptyStack) {
  const Batches none, empty = Batches::Stack({});
  for (const Batches* batches : {&none, &empty}) {
    EXPECT_EQ(batches->count(), 0);
    EXPECT_EQ(batches->total_tokens(), 0);
    EXPECT_EQ(batches->longest(), 0);
  }
}

TEST(Batches, CloneIntoStorageOfTheirOwn) {
  const Batches batches = Batches::Stack(TwoBatches());
  const Batches clone = batches.Clone();
  EXPECT_NE(clone.all().data(), batches.all().data());
  EXPECT_EQ(clone.count(), 2);
  EXPECT_EQ(clone.batch(1)(0, 0), 5);
}

// The two batches where `spill_folder` says.
Batches Built(const std::string& spill_folder) {
  const std::vector<Matrix> batches = TwoBatches();
  BatchesBuilder builder = BatchesBuilder::Create(3, 2, spill_folder).value();
  for (const Matrix& batch : batches) {
    const auto copy = [&batch](Index first, MutableMatrixView out) {
      std::copy_n(batch.row(first), out.size(), out.data());
      return absl::OkStatus();
    };
    EXPECT_TRUE(builder.Append(batch.rows(), copy).ok());
  }
  return builder.Finish({2, 1}).value();
}

TEST(Batches, AreTheSameInMemoryAndInAFile) {
  const Batches expected = Batches::Stack(TwoBatches());
  for (const std::string& folder : {std::string(), ::testing::TempDir()}) {
    const Batches built = Built(folder);
    ASSERT_EQ(built.total_tokens(), 3);
    ASSERT_EQ(built.features(), 2);
    EXPECT_TRUE(std::equal(built.all().data(), built.all().data() + 6, expected.all().data()));
    EXPECT_EQ(built.batch(1)(0, 1), 6);
  }
}

TEST(Batches, ArePickedInTheOrderAskedFor) {
  for (const std::string& folder : {std::string(), ::testing::TempDir()}) {
    const absl::StatusOr<Batches> picked = Built(folder).Pick({1, 0, 1});
    ASSERT_TRUE(picked.ok()) << picked.status();
    EXPECT_EQ(picked->count(), 3);
    EXPECT_EQ(picked->longest(), 2);
    EXPECT_EQ(picked->batch(0)(0, 0), 5);
    EXPECT_EQ(picked->batch(1)(1, 1), 4);
    EXPECT_EQ(picked->batch(2)(0, 1), 6);
  }
}

TEST(Batches, LeaveNoFileBehind) {
  const std::string folder = ::testing::TempDir() + "/spilled_batches";
  std::filesystem::create_directory(folder);
  const Batches built = Built(folder), picked = built.Pick({0}).value();
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST(BatchesBuilder, NamesTheFolderThatCannotTakeAFile) {
  const absl::Status status = BatchesBuilder::Create(3, 2, "/no/such/folder").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("/no/such/folder"));
}

TEST(BatchesBuilder, PassesOnWhatFillSays) {
  for (const std::string& folder : {std::string(), ::testing::TempDir()}) {
    BatchesBuilder builder = BatchesBuilder::Create(3, 2, folder).value();
    const auto refuse = [](Index, MutableMatrixView) { return absl::CancelledError("stop"); };
    EXPECT_EQ(builder.Append(3, refuse), absl::CancelledError("stop"));
  }
}

TEST(BatchesBuilder, WritesMoreThanOnePiece) {
  constexpr Index kRows = 3000, kFeatures = 200;  // 2.4 MB; a piece is 1 MiB
  BatchesBuilder builder = BatchesBuilder::Create(kRows, kFeatures, ::testing::TempDir()).value();
  std::vector<Index> firsts;
  const auto count = [&firsts](Index first, MutableMatrixView out) {
    firsts.push_back(first);
    for (Index i = 0; i < out.rows(); ++i) {
      for (Index j = 0; j < kFeatures; ++j) out(i, j) = static_cast<float>(first + i);
    }
    return absl::OkStatus();
  };
  ASSERT_TRUE(builder.Append(kRows, count).ok());
  const Batches built = builder.Finish({kRows}).value();
  EXPECT_GT(firsts.size(), 2u);
  for (Index i = 0; i < kRows; ++i) ASSERT_EQ(built.all()(i, kFeatures - 1), static_cast<float>(i));
}

}  // namespace
}  // namespace attnprune
