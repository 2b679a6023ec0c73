#include "server/upkeep/upkeep.h"

#include <gmock/gmock.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/server/blobs/store_fixture.h"
#include "tests/server/queue/sqlite/sqlite_place.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

constexpr absl::Duration kTensorGrace = absl::Hours(1), kKeep = absl::Hours(24 * 30);

class UpkeepTest : public StoreTest {
 protected:
  // A tensor that is in the store, its grace over.
  std::string OldTensor(unsigned seed) {
    std::string digest = store_->Put(RandomBytes(100, seed)).value();
    clock_.Advance(kTensorGrace);
    return digest;
  }
  std::string CancelledJob(const std::string& digest = "", JobKind kind = JobKind::kMethods) {
    NewJob job;
    if (!digest.empty()) job.tensor_digests = {digest};
    job.kind = kind;
    std::string id = jobs().Create(job)->job.id;
    EXPECT_TRUE(jobs().RequestCancel(id).ok());
    return id;
  }
  JobStore& jobs() { return *opened_.store; }

  testing::OpenedStore opened_ =
      testing::OpenStore(options_.folder, {.policy = {}, .clock = &clock_}).value();
};

TEST_F(UpkeepTest, CollectsAtOnceAndAgainAfterEachInterval) {
  OldTensor(1);
  const Upkeep upkeep(
      {.tensor_grace = kTensorGrace, .interval = absl::Milliseconds(1), .on_deleted = {}}, &jobs(),
      store_.get());
  while (store_->Usage().blobs > 0) std::this_thread::yield();
  OldTensor(2);
  while (store_->Usage().blobs > 0) std::this_thread::yield();
}

// Calls on many threads that free nearly all that they had: the last bytes of each heap stay.
std::vector<std::string> Burst(int64_t bytes) {
  std::vector<std::string> kept(4);
  std::vector<std::jthread> callers;
  for (std::string& one : kept) {
    callers.emplace_back([&one, bytes] {
      const std::vector<std::string> many(static_cast<size_t>(bytes) / 4 / 1000,
                                          std::string(1000, 'x'));
      one = std::string(5000, 'y');
    });
  }
  callers.clear();
  return kept;
}

TEST(UnusedMemory, IsGivenBackAfterABurst) {
  constexpr int64_t kBytes = UnusedMemory::kWorthwhileBytes;
  UnusedMemory memory;
  memory.GiveBack();
  const int64_t before = ResidentBytes();
  const std::vector<std::string> kept = Burst(8 * kBytes);
  if (ResidentBytes() < before + 2 * kBytes) GTEST_SKIP() << "this allocator keeps nothing";
  memory.GiveBack();
  if (kSanitized) GTEST_SKIP() << "a sanitizer's allocator keeps what was freed";
  EXPECT_LT(ResidentBytes(), before + kBytes);
}

TEST(UnusedMemory, IsGivenBackAfterAChangeOnly) {
  constexpr int64_t kBytes = UnusedMemory::kWorthwhileBytes;
  EXPECT_FALSE(UnusedMemory::IsWorthwhile(kBytes, kBytes + 1));
  EXPECT_TRUE(UnusedMemory::IsWorthwhile(3 * kBytes, kBytes));
  EXPECT_TRUE(UnusedMemory::IsWorthwhile(kBytes, 2 * kBytes));
}

TEST_F(UpkeepTest, EndsAtOnceHoweverLongItsInterval) {
  const Upkeep upkeep({.interval = absl::Hours(24), .on_deleted = {}}, &jobs(), store_.get());
}

TEST_F(UpkeepTest, KeepsJobsForEverUnlessToldOtherwise) {
  CancelledJob();
  clock_.Advance(1000 * kKeep);
  OldTensor(1);
  const Upkeep upkeep({.tensor_grace = kTensorGrace, .interval = absl::Hours(24), .on_deleted = {}},
                      &jobs(), store_.get());
  while (store_->Usage().blobs > 0) std::this_thread::yield();  // the round is through
  EXPECT_THAT(jobs().List({}, 10, "")->jobs, SizeIs(1));
}

TEST_F(UpkeepTest, DeletesOldJobsThenTheirTensorsInTheSameRound) {
  const std::string tensor = OldTensor(1);
  CancelledJob(tensor);
  clock_.Advance(2 * kKeep);
  const std::string recent = CancelledJob();
  const Upkeep upkeep({.keep_finished = kKeep,
                       .tensor_grace = kTensorGrace,
                       .interval = absl::Hours(24),
                       .on_deleted = {}},
                      &jobs(), store_.get());
  while (store_->Usage().blobs > 0) std::this_thread::yield();
  const std::vector<JobRecord> left = jobs().List({}, 10, "")->jobs;
  ASSERT_THAT(left, SizeIs(1));
  EXPECT_EQ(left[0].id, recent);
}

TEST_F(UpkeepTest, TellsOfEachJobThatItDeletesHoweverManyThereAre) {
  std::vector<std::string> expected, deleted;
  for (int i = 0; i < 250; ++i) expected.push_back(NameOf(CancelledJob()));
  expected.push_back(NameOf(CancelledJob("", JobKind::kRun)));
  clock_.Advance(2 * kKeep);
  const auto count = DeleteFinished(
      &jobs(), kKeep, [&](const std::string& name) { deleted.push_back(name); },
      [] { return false; });
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(*count, 251);
  EXPECT_EQ(deleted, expected);
}

TEST_F(UpkeepTest, StopsBetweenTwoWrites) {
  for (int i = 0; i < 250; ++i) CancelledJob();
  clock_.Advance(2 * kKeep);
  int looks = 0;
  EXPECT_EQ(*DeleteFinished(&jobs(), kKeep, nullptr, [&] { return ++looks > 1; }), 100);
}

}  // namespace
}  // namespace attnprune
