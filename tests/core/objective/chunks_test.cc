#include "core/objective/chunks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::FieldsAre;
using ::testing::IsEmpty;

// Batches of 3, 2, 5 and 1 tokens.
Batches SomeBatches() { return Batches(Matrix(11, 4), {3, 2, 5, 1}); }

TEST(Chunks, HoldConsecutiveBatchesUpToTheirSize) {
  EXPECT_THAT(CutIntoChunks(SomeBatches(), 10, 60),
              ElementsAre(FieldsAre(0, 2, 0, 5), FieldsAre(2, 2, 5, 6)));
}

TEST(Chunks, HoldABatchThatIsLargerThanTheirSizeAlone) {
  EXPECT_THAT(CutIntoChunks(SomeBatches(), 10, 20),
              ElementsAre(FieldsAre(0, 1, 0, 3), FieldsAre(1, 1, 3, 2), FieldsAre(2, 1, 5, 5),
                          FieldsAre(3, 1, 10, 1)));
}

TEST(Chunks, AreOneWhereEverythingFits) {
  const std::vector<Chunk> chunks = CutIntoChunks(SomeBatches(), 10, 110);
  EXPECT_THAT(chunks, ElementsAre(FieldsAre(0, 4, 0, 11)));
  EXPECT_EQ(LargestChunk(chunks), 11);
}

TEST(Chunks, OfNoBatchesAreNone) {
  EXPECT_THAT(CutIntoChunks(Batches(), 10, 110), IsEmpty());
  EXPECT_EQ(LargestChunk({}), 0);
}

}  // namespace
}  // namespace attnprune
