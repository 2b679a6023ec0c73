// Accepted jobs that a database has lost are noticed when it is opened, before anything is touched.
#include <gmock/gmock.h>

#include <filesystem>
#include <map>
#include <random>

#include "tests/server/queue/job_store_conformance.h"
#include "tests/server/queue/sqlite/scenario.h"

namespace attnprune::testing {
namespace {

using ::testing::HasSubstr;

namespace fs = std::filesystem;

using Files = std::map<std::string, std::string>;

// What a later start must find: neither the lock nor SQLite's index of its log nor an empty log.
Files FilesOf(const std::string& folder) {
  Files files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).string();
    if (entry.is_regular_file() && name != "lock" && !name.ends_with("-shm")) {
      files[name] = ReadAll(entry.path().string());
    }
  }
  if (files["jobs.sqlite3-wal"].empty()) files.erase("jobs.sqlite3-wal");
  return files;
}

void Copy(const std::string& from, const std::string& to) {
  fs::copy(from, to, fs::copy_options::recursive);
  fs::remove(to + "/jobs.sqlite3-shm");
}

// The folder of a store that was killed with three jobs, the last one running with a checkpoint.
class KilledStore {
 public:
  KilledStore() {
    const auto opened = OpenStore(folder_ / "running", {});
    EXPECT_TRUE(opened.ok()) << opened.status();
    JobStore& store = *opened->store;
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(store.Create({}).ok());
    const JobRecord job = **store.Claim("worker", absl::Hours(1));
    EXPECT_TRUE(store.SaveCheckpoint({job.id, job.fence}, "bytes").ok());
    Copy(folder_ / "running", folder_ / "older");
    EXPECT_TRUE(store.Create({}).ok());
    EXPECT_TRUE(store.RenewLease({job.id, job.fence}, absl::Hours(1)).ok());
    Copy(folder_ / "running", path());
  }
  std::string path() const { return folder_ / "killed"; }
  std::string operator/(const std::string& name) const { return path() + "/" + name; }
  std::string older(const std::string& name) const { return folder_ / ("older/" + name); }

 private:
  ScratchFolder folder_;
};

absl::Status StatusOfOpening(const std::string& folder) { return OpenStore(folder, {}).status(); }

void ExpectRefusedAndUntouched(const KilledStore& store, const std::string& because) {
  const Files before = FilesOf(store.path());
  const absl::Status status = StatusOfOpening(store.path());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(because));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--accept-loss"));
  EXPECT_EQ(FilesOf(store.path()), before) << "files were touched";
}

std::vector<std::string> WarningsOfAccepting(const KilledStore& store, size_t jobs_left) {
  std::vector<std::string> warnings;
  const auto warn = [&](absl::string_view text) { warnings.emplace_back(text); };
  const auto opened = OpenStore(store.path(), {.loss = Loss::kAccepted, .on_warning = warn});
  EXPECT_TRUE(opened.ok()) << opened.status();
  if (opened.ok()) {
    EXPECT_EQ(opened->store->List({}, 10, "")->jobs.size(), jobs_left);
  }
  return warnings;
}

TEST(SqliteJobStoreLoss, NothingIsMissingAfterAKill) {
  const KilledStore store;
  EXPECT_TRUE(StatusOfOpening(store.path()).ok()) << StatusOfOpening(store.path());
}

TEST(SqliteJobStoreLoss, AFlippedByteAnywhereInTheLogIsHarmlessOrRefused) {
  const KilledStore store;
  const std::string log = ReadAll(store / "jobs.sqlite3-wal");
  std::mt19937 random(7);
  int refused = 0;
  for (int i = 0; i < 60; ++i) {
    ScratchFolder scratch;
    const std::string copy = scratch / "copy";
    Copy(store.path(), copy);
    std::string damaged = log;
    damaged[random() % log.size()] ^= 1;
    WriteAll(copy + "/jobs.sqlite3-wal", damaged);
    const auto opened = OpenStore(copy, {});
    if (opened.ok()) {
      EXPECT_EQ(opened->store->List({}, 10, "")->jobs.size(), 3u);
      continue;
    }
    ++refused;
    EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss) << opened.status();
    EXPECT_EQ(ReadAll(copy + "/jobs.sqlite3-wal"), damaged) << "the evidence stays";
    EXPECT_FALSE(fs::is_empty(copy + "/checkpoints"));
  }
  EXPECT_GT(refused, 40);
}

TEST(SqliteJobStoreLoss, ALogThatIsGoneIsRefused) {
  const KilledStore store;
  fs::remove(store / "jobs.sqlite3-wal");
  ExpectRefusedAndUntouched(store, "3 accepted jobs of 3");
}

TEST(SqliteJobStoreLoss, AShorterLogIsRefusedWithTheNumberOfJobsItLacks) {
  const KilledStore store;
  WriteAll(store / "jobs.sqlite3-wal", ReadAll(store.older("jobs.sqlite3-wal")));
  ExpectRefusedAndUntouched(store, "lacks its last 2 changes, among them 1 accepted job of 3");
}

TEST(SqliteJobStoreLoss, LosingOtherChangesThanJobsIsRefusedToo) {
  const KilledStore store;
  std::string log = ReadAll(store / "jobs.sqlite3-wal");
  log.back() ^= 1;  // in the renewed lease
  WriteAll(store / "jobs.sqlite3-wal", log);
  ExpectRefusedAndUntouched(store, "lacks its last change, among them 0 accepted jobs of 3");
}

TEST(SqliteJobStoreLoss, ADatabaseThatIsGoneIsRefused) {
  const KilledStore store;
  fs::remove(store / "jobs.sqlite3");
  ExpectRefusedAndUntouched(store, "jobs.sqlite3 is missing, and with it 3 accepted jobs");
}

TEST(SqliteJobStoreLoss, CheckpointsWithoutADatabaseAreRefused) {
  const KilledStore store;
  for (const char* name : {"jobs.sqlite3", "jobs.sqlite3-wal", "jobs.watermark"}) {
    fs::remove(store / name);
  }
  ExpectRefusedAndUntouched(store, "its jobs' checkpoints or tensors are there");
}

TEST(SqliteJobStoreLoss, AnOlderCopyAndAnotherFoldersDatabaseAreRefused) {
  const KilledStore store, other;
  for (const char* name : {"jobs.sqlite3", "jobs.sqlite3-wal"}) {
    fs::copy(store.older(name), store / name, fs::copy_options::overwrite_existing);
  }
  ExpectRefusedAndUntouched(store, "an older copy is in its place");
  for (const char* name : {"jobs.sqlite3", "jobs.sqlite3-wal"}) {
    fs::copy(other / name, store / name, fs::copy_options::overwrite_existing);
  }
  ExpectRefusedAndUntouched(store, "is not the one that this folder's jobs were written to");
}

TEST(SqliteJobStoreLoss, ADamagedWatermarkIsRefused) {
  const KilledStore store;
  WriteAll(store / "jobs.watermark", std::string(5000, 'x'));
  ExpectRefusedAndUntouched(store, "neither of its lines is whole");
}

TEST(SqliteJobStoreLoss, ThatIsAcceptedIsToldAndNotAskedAboutAgain) {
  const KilledStore store;
  WriteAll(store / "jobs.sqlite3-wal", ReadAll(store.older("jobs.sqlite3-wal")));
  EXPECT_THAT(WarningsOfAccepting(store, 2), ::testing::ElementsAre(HasSubstr("accepted: ")));
  EXPECT_TRUE(StatusOfOpening(store.path()).ok()) << StatusOfOpening(store.path());
}

TEST(SqliteJobStoreLoss, ADatabaseThatIsGoneIsBegunAnewWhereThatIsAccepted) {
  const KilledStore store;
  const std::string log = ReadAll(store / "jobs.sqlite3-wal");
  fs::remove(store / "jobs.sqlite3");
  EXPECT_THAT(WarningsOfAccepting(store, 0), ::testing::ElementsAre(HasSubstr("3 accepted jobs")));
  EXPECT_EQ(ReadAll(store / "jobs.sqlite3-wal.lost-1"), log) << "nothing is thrown away";
  EXPECT_TRUE(StatusOfOpening(store.path()).ok());
}

TEST(SqliteJobStoreLoss, WhatWasLostAndComesBackLaterIsAnotherDatabase) {
  const KilledStore store;
  const std::string lost = ReadAll(store / "jobs.sqlite3-wal");
  const std::string database = ReadAll(store / "jobs.sqlite3");
  WriteAll(store / "jobs.sqlite3-wal", ReadAll(store.older("jobs.sqlite3-wal")));
  WarningsOfAccepting(store, 2);
  fs::remove(store / "jobs.sqlite3-wal");
  WriteAll(store / "jobs.sqlite3", database);
  WriteAll(store / "jobs.sqlite3-wal", lost);
  EXPECT_EQ(CodeOf(OpenStore(store.path(), {})), absl::StatusCode::kDataLoss);
}

TEST(SqliteJobStoreLoss, ADeletedJobIsNoLoss) {
  ScratchFolder folder;
  {
    const auto opened = OpenStore(folder.path(), {});
    const std::string id = opened->store->Create({})->job.id;
    ASSERT_TRUE(opened->store->RequestCancel(id).ok());
    ASSERT_TRUE(opened->store->Delete(id).ok());
  }
  EXPECT_TRUE(StatusOfOpening(folder.path()).ok()) << StatusOfOpening(folder.path());
}

TEST(SqliteJobStoreLoss, AMissingWatermarkIsMadeAnewWithAWarning) {
  const KilledStore store;
  fs::remove(store / "jobs.watermark");
  std::vector<std::string> warnings;
  const auto warn = [&](absl::string_view text) { warnings.emplace_back(text); };
  ASSERT_TRUE(OpenStore(store.path(), {.on_warning = warn}).ok());
  EXPECT_THAT(warnings, ::testing::ElementsAre(HasSubstr("its watermark is missing")));
  warnings.clear();
  ASSERT_TRUE(OpenStore(store.path(), {.on_warning = warn}).ok());
  EXPECT_TRUE(warnings.empty());
}

class MovedFiles : public ::testing::TestWithParam<const char*> {};

// The store's own writes are refused, and its end leaves alone what is there now.
TEST_P(MovedFiles, UnderARunningStoreRefuseWritesUntilTheyAreBack) {
  ScratchFolder folder;
  {
    const auto opened = OpenStore(folder.path(), {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    JobStore& store = *opened->store;
    ASSERT_TRUE(store.Create({}).ok());
    ASSERT_TRUE(store.CheckInPlace().ok());
    fs::rename(folder / GetParam(), folder / "moved");
    const absl::Status status = store.Create({}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(GetParam()) + " was removed"));
    EXPECT_EQ(store.CheckInPlace(), status);
    EXPECT_FALSE(fs::exists(folder / GetParam())) << "nothing is made again";
    WriteAll(folder / GetParam(), "somebody else's");
    EXPECT_THAT(std::string(store.Create({}).status().message()), HasSubstr("was replaced"));
    fs::remove(folder / GetParam());
    fs::rename(folder / "moved", folder / GetParam());
    EXPECT_TRUE(store.Create({}).ok());
    fs::rename(folder / GetParam(), folder / "moved");
    WriteAll(folder / GetParam(), "somebody else's");
  }
  EXPECT_EQ(ReadAll(folder / GetParam()), "somebody else's");
}

INSTANTIATE_TEST_SUITE_P(Sqlite, MovedFiles,
                         ::testing::Values("jobs.sqlite3", "jobs.sqlite3-wal", "jobs.watermark",
                                           "checkpoints"),
                         [](const auto& file) {
                           std::string name = file.param;
                           std::erase_if(name, [](char c) { return !std::isalnum(c); });
                           return name;
                         });

}  // namespace
}  // namespace attnprune::testing
