#include "server/upkeep/tensor_collector.h"

#include <gtest/gtest.h>

#include "tests/server/blobs/store_fixture.h"
#include "tests/server/queue/sqlite/sqlite_place.h"

namespace attnprune {
namespace {

constexpr absl::Duration kGrace = absl::Hours(1);

class TensorCollectorTest : public StoreTest {
 protected:
  // A tensor that is in the store, its grace over.
  std::string OldTensor(unsigned seed) {
    std::string digest = store_->Put(RandomBytes(100, seed)).value();
    clock_.Advance(kGrace);
    return digest;
  }
  std::string CreateJob(const std::string& digest) {
    NewJob job;
    job.tensor_digests = {digest};
    return jobs().Create(job)->job.id;
  }
  JobStore& jobs() { return *opened_.store; }
  bool IsStored(const std::string& digest) { return store_->SizeOf(digest).ok(); }

  testing::OpenedStore opened_ = testing::OpenStore(options_.folder, {}).value();
};

TEST_F(TensorCollectorTest, KeepsWhatAJobReadsUntilTheJobIsDeleted) {
  const std::string used = OldTensor(1), unused = OldTensor(2);
  const std::string id = CreateJob(used);
  EXPECT_EQ(CollectTensors(&jobs(), store_.get(), kGrace)->blobs, 1);
  EXPECT_TRUE(IsStored(used));
  EXPECT_FALSE(IsStored(unused));
  ASSERT_TRUE(jobs().RequestCancel(id).ok());
  ASSERT_TRUE(jobs().Delete(id).ok());
  EXPECT_EQ(CollectTensors(&jobs(), store_.get(), kGrace)->blobs, 1);
  EXPECT_FALSE(IsStored(used));
}

TEST_F(TensorCollectorTest, KeepsWhatAResultRefersTo) {
  const std::string mask = OldTensor(1);
  CreateJob(OldTensor(2));
  const JobRecord job = **jobs().Claim("worker", absl::Seconds(30));
  ASSERT_TRUE(jobs().FinishMethod({job.id, job.fence}, 0, "result", {mask}).ok());
  EXPECT_EQ(CollectTensors(&jobs(), store_.get(), kGrace)->blobs, 0);
  EXPECT_TRUE(IsStored(mask));
}

TEST_F(TensorCollectorTest, LeavesAnUnusedTensorInItsGrace) {
  store_->Put(RandomBytes(100, 1)).value();
  EXPECT_EQ(CollectTensors(&jobs(), store_.get(), kGrace)->blobs, 0);
}

}  // namespace
}  // namespace attnprune
