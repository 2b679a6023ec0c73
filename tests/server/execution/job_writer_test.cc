#include "server/execution/job_writer.h"

#include <gtest/gtest.h>

#include <future>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/server/execution/execution_fixture.h"
#include "tests/server/execution/failing_store.h"

namespace attnprune::testing {
namespace {

// The writer of one claimed job, whose first write waits until Release.
class JobWriterTest : public ExecutionTest {
 protected:
  JobWriterTest()
      : id_(place_.Create(LayerJob(&place_))),
        claim_{id_, place_.Claim().fence},
        store_(&place_.jobs(), [this](int) {
          MutexLock lock(&mutex_);
          changed_.Wait(&mutex_, [this] { return released_; });
          return fate_;
        }) {}

  JobWriterOptions Options() {
    return {absl::ZeroDuration(), absl::Seconds(5), &place_.clock(), [](const absl::Status&) {}};
  }
  void Release() {
    {
      MutexLock lock(&mutex_);
      released_ = true;
    }
    changed_.NotifyAll();
  }
  std::vector<int> Progress() {
    std::vector<int> payloads;
    for (const StoredEvent& event : place_.Events(id_)) {
      int number = 0;
      if (IsProgress(event.kind) && absl::SimpleAtoi(event.payload, &number)) {
        payloads.push_back(number);
      }
    }
    return payloads;
  }

  const std::string id_;
  const JobClaim claim_;
  Mutex mutex_;
  CondVar changed_;
  bool released_ = false;
  absl::Status fate_;
  FailingStore store_;
  StopSignal stop_;
};

TEST_F(JobWriterTest, AStuckDiskHoldsNobodyUpAndKeepsTheNewestAndTheEvaluated) {
  JobWriter writer(&store_, claim_, Options(), &stop_);
  for (int i = 1; i <= 10'000; ++i) {  // returns although nothing can be written
    const bool evaluated = i % 1000 == 0;
    writer.AddProgress(absl::StrCat(i), evaluated ? EventKind::kEvaluated : EventKind::kProgress);
  }
  Release();
  writer.Flush();
  const std::vector<int> written = Progress();
  EXPECT_LE(written.size(), 2 * JobWriter::kMaxProgress);
  EXPECT_EQ(written.back(), 10'000);
  for (int i = 1000; i <= 10'000; i += 1000) {
    EXPECT_EQ(std::count(written.begin(), written.end(), i), 1) << i;
  }
  EXPECT_TRUE(std::is_sorted(written.begin(), written.end()));
}

TEST_F(JobWriterTest, ACheckpointIsDueAfterTheIntervalUnlessOneIsBeingWritten) {
  JobWriter writer(&store_, claim_, Options(), &stop_);
  EXPECT_FALSE(writer.CheckpointIsDue());
  place_.clock().Advance(absl::Seconds(5));
  EXPECT_TRUE(writer.CheckpointIsDue());
  writer.AddCheckpoint("first");
  place_.clock().Advance(absl::Seconds(5));
  EXPECT_FALSE(writer.CheckpointIsDue());
  Release();
  writer.Flush();
  EXPECT_TRUE(writer.CheckpointIsDue());
  EXPECT_EQ(**place_.jobs().ReadCheckpoint(claim_), "first");
}

TEST_F(JobWriterTest, ACheckpointIsMadeInTheRoomOfTheOneBeforeItUntilAFlush) {
  std::promise<void> written;
  JobWriterOptions options = Options();
  options.on_checkpoint = [&](bool, size_t) { written.set_value(); };
  JobWriter writer(&store_, claim_, options, &stop_);
  Release();
  const std::string checkpoint(100'000, 'x');
  EXPECT_EQ(writer.TakeCheckpointRoom().capacity(), std::string().capacity());
  writer.AddCheckpoint(checkpoint);
  written.get_future().wait();
  std::string room;
  while (room.capacity() < checkpoint.size()) {  // told of the write before the room is given back
    std::this_thread::yield();
    room = writer.TakeCheckpointRoom();
  }
  EXPECT_EQ(room, "");
  written = std::promise<void>();
  writer.AddCheckpoint(checkpoint);
  writer.Flush();
  EXPECT_EQ(writer.TakeCheckpointRoom().capacity(), std::string().capacity());
}

TEST_F(JobWriterTest, ALapsedClaimStopsTheJob) {
  JobWriter writer(&store_, claim_, Options(), &stop_);
  fate_ = absl::AbortedError("lapsed");
  writer.AddWarning("w");
  Release();
  writer.Flush();
  EXPECT_EQ(stop_.reason(), StopReason::kLapsed);
}

TEST_F(JobWriterTest, AFailedWriteIsDroppedAndTheNextOneTried) {
  JobWriter writer(&store_, claim_, Options(), &stop_);
  fate_ = absl::ResourceExhaustedError("disk full");
  writer.AddProgress("1", EventKind::kProgress);
  Release();
  writer.Flush();
  {
    MutexLock lock(&mutex_);
    fate_ = absl::OkStatus();
  }
  writer.AddProgress("2", EventKind::kProgress);
  writer.Flush();
  EXPECT_EQ(Progress(), std::vector<int>{2});
  EXPECT_FALSE(stop_.requested());
}

TEST_F(JobWriterTest, ALongLogIsThinnedOutWhileItGrows) {
  Release();
  JobWriter writer(&store_, claim_, Options(), &stop_);
  for (int i = 1; i <= 3 * JobWriter::kCompactEvery; ++i) {
    writer.AddProgress(absl::StrCat(i), EventKind::kProgress);
    if (i % 50 == 0) writer.Flush();
  }
  writer.Flush();
  const std::vector<int> written = Progress();
  EXPECT_LE(written.size(), 2u * JobWriter::kCompactEvery);
  EXPECT_EQ(written.front(), 1);
  EXPECT_EQ(written.back(), 3 * JobWriter::kCompactEvery);
}

TEST_F(JobWriterTest, ALongLogKeepsEveryEvaluatedStep) {
  Release();
  JobWriter writer(&store_, claim_, Options(), &stop_);
  std::vector<int> evaluated;
  for (int i = 1; i <= 4 * JobWriter::kCompactEvery; ++i) {
    if (i % 10 == 0) evaluated.push_back(i);
    writer.AddProgress(absl::StrCat(i), i % 10 == 0 ? EventKind::kEvaluated : EventKind::kProgress);
    if (i % 50 == 0) writer.Flush();
  }
  const std::vector<int> written = Progress();
  EXPECT_LE(written.size(), 2u * JobWriter::kCompactEvery) << "it was thinned out";
  EXPECT_TRUE(std::includes(written.begin(), written.end(), evaluated.begin(), evaluated.end()));
}

}  // namespace
}  // namespace attnprune::testing
