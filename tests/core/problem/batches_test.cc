#include "core/problem/batches.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace attnprune
