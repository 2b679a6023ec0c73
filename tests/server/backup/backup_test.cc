// Backups of a data folder whose stores are open and at work in this process.
#include "server/backup/backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "server/upkeep/tensor_collector.h"
#include "tests/server/blobs/store_fixture.h"
#include "tests/server/queue/sqlite/sqlite_place.h"
#include "tests/server/queue/store_dump.h"

namespace attnprune {
namespace {

using testing::DumpStore;
using ::testing::HasSubstr;
using ::testing::Not;

ino_t InodeOf(const std::string& path) {
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 ? facts.st_ino : 0;
}

class BackupTest : public StoreTest {
 protected:
  JobStore& jobs() { return *opened_.store; }
  std::string Output(const std::string& name = "backup") { return folder_.path() + "/" + name; }
  absl::StatusOr<BackupReport> BackUpHere(BackupOptions options = {}) {
    options.data_dir = options_.folder;
    if (options.output.empty()) options.output = Output();
    return BackUp(options);
  }

  std::string Tensor(unsigned seed) { return store_->Put(RandomBytes(1000, seed)).value(); }
  std::string CreateJob(const std::string& digest) {
    NewJob job;
    job.tensor_digests = {digest};
    job.spec = "spec";
    job.labels = {{"team", "vision"}};
    return jobs().Create(job)->job.id;
  }
  // The next job in the queue, now running, with a result and a checkpoint.
  JobClaim RunningJob(const std::string& mask, const std::string& checkpoint) {
    const JobRecord job = **jobs().Claim("worker", absl::Seconds(30));
    JobClaim claim{job.id, job.fence};
    EXPECT_TRUE(jobs().AppendEvents(claim, {{EventKind::kProgress, "step"}}).ok());
    EXPECT_TRUE(jobs().FinishMethod(claim, 0, "result", {mask}).ok());
    EXPECT_TRUE(jobs().SaveCheckpoint(claim, checkpoint).ok());
    return claim;
  }

  std::string DatabasePath() const { return options_.folder + "/jobs.sqlite3"; }

  testing::OpenedStore opened_ = testing::OpenStore(options_.folder, {}).value();
};

TEST_F(BackupTest, HasJobsEventsResultsTensorsAndCheckpoints) {
  CreateJob(Tensor(1));
  RunningJob(Tensor(2), "checkpoint");
  CreateJob(Tensor(3));
  const auto report = BackUpHere({.verify = true});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->jobs, 2);
  EXPECT_EQ(report->tensors, 3);
  EXPECT_EQ(report->tensor_bytes, 3000);
  EXPECT_EQ(report->checkpoints, 1);
  EXPECT_EQ(report->missing, 0);

  const std::string original = DumpStore(jobs());
  EXPECT_THAT(original, Not(HasSubstr("ERROR")));
  auto copy = testing::OpenStore(Output(), {});
  ASSERT_TRUE(copy.ok()) << copy.status();
  const JobRecord again = **copy->store->Claim("worker", absl::Seconds(30));
  EXPECT_EQ(*copy->store->ReadCheckpoint({again.id, again.fence}), "checkpoint");
  EXPECT_EQ(again.results, std::vector<std::string>({"result"}));
  options_.folder = Output();
  Reopen();
  for (unsigned seed : {1, 2, 3}) {
    EXPECT_TRUE(store_->Verify(Sha256Of(RandomBytes(1000, seed))).ok());
  }
}

TEST_F(BackupTest, IsWhatTheFolderWasUpToTheLastByteOfText) {
  CreateJob(Tensor(1));
  const JobClaim claim = RunningJob(Tensor(2), "checkpoint");
  ASSERT_TRUE(jobs().Finish(claim, JobState::kSucceeded, {}, "").ok());
  CreateJob(Tensor(3));
  ASSERT_TRUE(BackUpHere().ok());
  EXPECT_EQ(DumpStore(*testing::OpenStore(Output(), {})->store), DumpStore(jobs()));
}

TEST_F(BackupTest, LeavesOutWhatNoJobRefersTo) {
  const std::string unused = Tensor(1);
  CreateJob(Tensor(2));
  ASSERT_TRUE(BackUpHere().ok());
  EXPECT_TRUE(std::filesystem::exists(BlobPath(unused)));
  options_.folder = Output();
  EXPECT_FALSE(std::filesystem::exists(BlobPath(unused)));
  EXPECT_FALSE(std::filesystem::exists(UploadsFolder()));
}

TEST_F(BackupTest, LinksWhatNeverChanges) {
  const std::string tensor = Tensor(1);
  CreateJob(tensor);
  const auto report = BackUpHere();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->copied_bytes, 0);
  const ino_t original = InodeOf(BlobPath(tensor));
  options_.folder = Output();
  EXPECT_EQ(InodeOf(BlobPath(tensor)), original);
}

TEST_F(BackupTest, CopiesToAnotherFileSystem) {
  const testing::ScratchFolder disk(testing::ScratchFolder::OnDisk());
  if (std::filesystem::equivalent(disk.path(), folder_.path()) ||
      InodeOf(disk.path()) == InodeOf(folder_.path())) {
    GTEST_SKIP() << "there is only one";
  }
  CreateJob(Tensor(1));
  const auto report = BackUpHere({.output = disk / "backup", .verify = true});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->copied_bytes, 1000);
  EXPECT_EQ(report->tensors, 1);
}

TEST_F(BackupTest, IsForItsOwnerAlone) {
  CreateJob(Tensor(1));
  ASSERT_TRUE(BackUpHere().ok());
  struct stat facts;
  ASSERT_EQ(stat(Output().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0700U);
  ASSERT_EQ(stat((Output() + "/jobs.sqlite3").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
}

TEST_F(BackupTest, GoesIntoAnEmptyFolderAndIntoNoOther) {
  std::filesystem::create_directory(Output());
  EXPECT_TRUE(BackUpHere({.output = Output() + "/"}).ok());
  const absl::Status again = BackUpHere().status();
  EXPECT_EQ(again.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldAtFault(again), "output");
  testing::WriteAll(Output("file"), "");
  EXPECT_EQ(FieldAtFault(BackUpHere({.output = Output("file")}).status()), "output");
}

TEST_F(BackupTest, StandsBackFromOneThatWasKilled) {
  std::filesystem::create_directory(Output() + ".incomplete");
  const absl::Status status = BackUpHere().status();
  EXPECT_EQ(FieldAtFault(status), "output");
  EXPECT_THAT(std::string(status.message()), HasSubstr("remove it"));
  EXPECT_FALSE(std::filesystem::exists(Output()));
}

TEST_F(BackupTest, OfWhatIsNoDataFolderIsRefused) {
  const auto report = BackUp({.data_dir = folder_.path(), .output = Output()});
  EXPECT_EQ(report.status().code(), absl::StatusCode::kNotFound);
}

TEST_F(BackupTest, NamesALostTensorAndLeavesNothing) {
  const std::string lost = Tensor(1);
  CreateJob(lost);
  std::filesystem::remove(BlobPath(lost));
  const absl::Status status = BackUpHere().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(lost));
  EXPECT_FALSE(std::filesystem::exists(Output()));
  EXPECT_FALSE(std::filesystem::exists(Output() + ".incomplete"));

  const auto without = BackUpHere({.allow_missing = true});
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_EQ(without->missing, 1);
}

TEST_F(BackupTest, FindsATensorWhoseBytesHaveChangedWhereItIsToVerify) {
  const std::string tensor = Tensor(1);
  CreateJob(tensor);
  WriteWhole(BlobPath(tensor), RandomBytes(1000, 2));
  const absl::Status status = BackUpHere({.verify = true}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(tensor));
  EXPECT_FALSE(std::filesystem::exists(Output()));
}

TEST_F(BackupTest, OfADamagedCheckpointIsRefused) {
  CreateJob(Tensor(1));
  RunningJob(Tensor(2), "checkpoint");
  for (const auto& file : std::filesystem::directory_iterator(options_.folder + "/checkpoints")) {
    WriteWhole(file.path(), "damaged...");
  }
  EXPECT_EQ(BackUpHere().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(std::filesystem::exists(Output()));
}

TEST_F(BackupTest, OfADamagedDatabaseIsRefused) {
  CreateJob(Tensor(1));
  opened_.store.reset();  // folds its log into the database
  std::string bytes = ReadWhole(DatabasePath());
  const size_t label = bytes.find("vision");
  ASSERT_NE(label, std::string::npos);
  bytes[label] = 'V';
  WriteWhole(DatabasePath(), bytes);
  EXPECT_EQ(BackUpHere().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(std::filesystem::exists(Output()));
}

TEST_F(BackupTest, LeavesAStoppedServersFolderAsItIs) {
  CreateJob(Tensor(1));
  opened_.store.reset();
  const std::string before = ReadWhole(DatabasePath());
  ASSERT_TRUE(BackUpHere().ok());
  EXPECT_EQ(ReadWhole(DatabasePath()), before);
  EXPECT_EQ(testing::OpenStore(Output(), {})->store->List({}, 10, "")->jobs.size(), 1U);
}

TEST_F(BackupTest, TakesALaterStateWhereOneWasReplacedBeforeItWasCopied) {
  CreateJob(Tensor(1));
  const JobClaim claim = RunningJob(Tensor(2), "checkpoint 0");
  int snapshots = 0;
  const auto report = BackUpHere({.on_snapshot = [&] {
    if (++snapshots > 4) return;
    EXPECT_TRUE(jobs().SaveCheckpoint(claim, absl::StrCat("checkpoint ", snapshots)).ok());
  }});
  ASSERT_TRUE(report.ok()) << report.status();
  auto copy = testing::OpenStore(Output(), {});
  ASSERT_TRUE(copy.ok()) << copy.status();
  const JobRecord job = **copy->store->Claim("worker", absl::Seconds(30));
  EXPECT_EQ(*copy->store->ReadCheckpoint({job.id, job.fence}), "checkpoint 4");
}

TEST_F(BackupTest, GivesUpWhereEveryStateIsReplacedBeforeItIsCopied) {
  CreateJob(Tensor(1));
  const JobClaim claim = RunningJob(Tensor(2), "checkpoint");
  const auto report = BackUpHere(
      {.on_snapshot = [&] { EXPECT_TRUE(jobs().SaveCheckpoint(claim, "another").ok()); }});
  EXPECT_EQ(report.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(Output() + ".incomplete"));
}

// A server's day in fast motion: jobs come, write checkpoints and results, end, are deleted, and
// their tensors collected at once, while backups are taken.
TEST_F(BackupTest, IsWholeWhateverTheServerDoesMeanwhile) {
  std::atomic<bool> stop{false};
  std::atomic<int> rounds{0};
  std::jthread server([&] {
    for (unsigned seed = 1; !stop; ++seed) {
      CreateJob(Tensor(2 * seed));
      const JobClaim claim = RunningJob(Tensor(2 * seed + 1), absl::StrCat("checkpoint ", seed));
      EXPECT_TRUE(jobs().SaveCheckpoint(claim, "another").ok());
      EXPECT_TRUE(jobs().Finish(claim, JobState::kSucceeded, {}, "").ok());
      EXPECT_TRUE(jobs().Delete(claim.id).ok());
      EXPECT_TRUE(CollectTensors(&jobs(), store_.get(), absl::ZeroDuration()).ok());
      ++rounds;
    }
  });
  for (int i = 0; i < 30; ++i) {
    const int before = rounds;
    const auto report = BackUpHere({.output = Output(absl::StrCat("backup-", i)), .verify = true});
    ASSERT_TRUE(report.ok() || absl::IsUnavailable(report.status())) << report.status();
    while (rounds == before) std::this_thread::yield();  // no two backups of one state
  }
  stop = true;
}

}  // namespace
}  // namespace attnprune
