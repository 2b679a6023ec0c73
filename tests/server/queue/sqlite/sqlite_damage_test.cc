// Damaged, foreign and unwritable databases: opened with their contents intact or refused with a
// reason, never in between.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <random>

#include "server/queue/sqlite/sqlite.h"
#include "tests/server/queue/job_store_conformance.h"
#include "tests/server/queue/sqlite/scenario.h"

namespace attnprune::testing {
namespace {

using ::testing::HasSubstr;
using enum absl::StatusCode;

// A store after the whole scenario, closed: one file, with queued and failed jobs.
void MakeStore(const std::string& folder) {
  SteppedClock clock;
  const auto opened = OpenStore(folder, {.clock = &clock});
  ASSERT_TRUE(opened.ok()) << opened.status();
  const absl::Status ran = Scenario(opened->store.get(), &clock).Run(Scenario::Steps());
  ASSERT_TRUE(ran.ok()) << ran;
}

// All of the file's header, and offsets drawn from the rest where there is something to damage.
std::vector<size_t> OffsetsToDamage(const std::string& bytes, size_t count, std::mt19937* random) {
  std::vector<size_t> offsets, rest;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i < 100) offsets.push_back(i);
    if (i >= 100 && (bytes[i] != 0 || i % 16 == 0)) rest.push_back(i);
  }
  std::shuffle(rest.begin(), rest.end(), *random);
  rest.resize(std::min(rest.size(), count));
  offsets.insert(offsets.end(), rest.begin(), rest.end());
  return offsets;
}

unsigned Seed() {
  const int flag = GTEST_FLAG_GET(random_seed);
  return flag != 0 ? static_cast<unsigned>(flag) : std::random_device{}() % 99999 + 1;
}

bool IsClearRefusal(const std::string& dump) {
  for (const char* code : {"DATA_LOSS", "FAILED_PRECONDITION", "PERMISSION_DENIED"}) {
    if (dump.rfind(std::string("ERROR ") + code, 0) == 0) return true;
  }
  return false;
}

TEST(SqliteJobStoreDamage, AFlippedByteAnywhereIsHarmlessOrRefused) {
  ScratchFolder folder;
  const std::string path = folder / "jobs.sqlite3";
  MakeStore(folder.path());
  const std::string whole = ReadAll(path), mark = ReadAll(folder / "jobs.watermark");
  const std::string intact = DumpAfterRestart(folder.path());
  ASSERT_EQ(intact.find("ERROR"), std::string::npos) << intact;
  const unsigned seed = Seed();
  std::cout << "again with --gtest_random_seed=" << seed << "\n";
  std::mt19937 random(seed);
  int refused = 0, harmless = 0;
  for (const size_t offset : OffsetsToDamage(whole, 500, &random)) {
    std::string damaged = whole;
    const auto flip = static_cast<char>(1 + random() % 255);
    damaged[offset] = static_cast<char>(damaged[offset] ^ flip);
    WriteAll(path, damaged);
    WriteAll(folder / "jobs.watermark", mark);
    const std::string dump = DumpAfterRestart(folder.path());
    (dump == intact ? harmless : refused)++;
    EXPECT_TRUE(dump == intact || IsClearRefusal(dump))
        << "offset " << offset << " flipped by " << static_cast<int>(flip) << ":\n"
        << dump;
    std::filesystem::remove(path + "-wal");
    std::filesystem::remove(path + "-shm");
  }
  std::cout << refused << " refused, " << harmless << " harmless\n";
  EXPECT_GT(refused, 200) << "most of what was flipped means something";
}

// The write-ahead log has no end mark: SQLite takes damage for its end. What is left is then an
// earlier state of the whole, never a mixture; with its watermark there the folder is refused
// (sqlite_loss_test.cc).
TEST(SqliteJobStoreDamage, AFlippedByteInTheLogLeavesAWholeEarlierState) {
  const std::vector<std::string> states = ExpectedDumps();
  ScratchFolder folder, crashed;
  SteppedClock clock;
  const auto opened = OpenStore(folder.path(), {.clock = &clock});
  ASSERT_TRUE(opened.ok());
  ASSERT_TRUE(Scenario(opened->store.get(), &clock).Run(Scenario::Steps()).ok());
  const std::string log = ReadAll(folder / "jobs.sqlite3-wal");
  ASSERT_FALSE(log.empty());
  std::mt19937 random(Seed());
  for (int i = 0; i < 100; ++i) {
    std::string damaged = log;
    const size_t offset = random() % log.size();
    damaged[offset] = static_cast<char>(damaged[offset] ^ 0x10);
    const std::string copy = crashed / std::to_string(i);
    std::filesystem::create_directories(copy);
    std::filesystem::copy(folder / "jobs.sqlite3", copy + "/jobs.sqlite3");
    WriteAll(copy + "/jobs.sqlite3-wal", damaged);
    // Of older states the checkpoint files are gone: the worker is told and starts over.
    const std::string dump = DumpAfterRestart(copy);
    const auto is_prefix = [&](const std::string& state) {
      return dump.substr(0, dump.rfind("tensors")) == state.substr(0, state.rfind("tensors"));
    };
    EXPECT_TRUE(std::any_of(states.begin(), states.end(), is_prefix) || IsClearRefusal(dump))
        << "offset " << offset << ":\n"
        << dump;
  }
}

TEST(SqliteJobStoreDamage, ATruncatedDatabaseIsRefused) {
  ScratchFolder folder;
  const std::string path = folder / "jobs.sqlite3";
  MakeStore(folder.path());
  const std::string whole = ReadAll(path);
  for (const size_t size : {size_t{0}, size_t{50}, size_t{4096}, whole.size() - 1}) {
    WriteAll(path, whole.substr(0, size));
    EXPECT_EQ(CodeOf(OpenStore(folder.path(), {})), kDataLoss) << size << " bytes";
    std::filesystem::remove(path + "-wal");
  }
}

TEST(SqliteJobStoreDamage, AMissingDatabaseWithItsLogThereIsRefused) {
  ScratchFolder folder;
  WriteAll(folder / "jobs.sqlite3-wal", "left behind");
  const absl::Status status = OpenStore(folder.path(), {}).status();
  EXPECT_EQ(status.code(), kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("missing"));
}

TEST(SqliteJobStoreDamage, AnyOtherFileIsRefused) {
  ScratchFolder folder;
  WriteAll(folder / "jobs.sqlite3", std::string(8192, 'x'));
  EXPECT_EQ(CodeOf(OpenStore(folder.path(), {})), kDataLoss);
}

void RunSql(const std::string& path, const std::string& sql) {
  auto database = sqlite::Database::Open(path);
  ASSERT_TRUE(database.ok()) << database.status();
  const absl::Status status = database->ExecuteScript(sql);
  ASSERT_TRUE(status.ok()) << status;
}

struct Edit {
  const char* title;
  const char* sql;
  absl::StatusCode code;
};

TEST(SqliteJobStoreDamage, WhatOthersWroteIntoTheDatabaseIsRefused) {
  const Edit edits[] = {
      {"another program's database", "PRAGMA application_id = 7", kFailedPrecondition},
      {"a newer version's database", "PRAGMA user_version = 1000", kFailedPrecondition},
      {"a table too many", "CREATE TABLE extra (x)", kDataLoss},
      {"an index too few", "DROP INDEX jobs_by_state", kDataLoss},
      {"a changed priority", "UPDATE jobs SET priority = priority + 1", kDataLoss},
      {"a changed result", "UPDATE job_results SET result = x'00'", kDataLoss},
      {"a changed reference", "UPDATE job_tensors SET digest = 'ab'", kDataLoss},
      {"a changed checkpoint", "UPDATE job_part_checkpoints SET size = size + 1", kDataLoss},
      {"a missing specification", "DELETE FROM job_specs", kDataLoss},
      {"a missing result", "DELETE FROM job_results WHERE method_index = 0", kDataLoss},
      {"events of no job", "UPDATE job_events SET job = job + 100", kDataLoss},
  };
  for (const Edit& edit : edits) {
    ScratchFolder folder;
    MakeStore(folder.path());
    RunSql(folder / "jobs.sqlite3", edit.sql);
    const absl::Status status = OpenStore(folder.path(), {}).status();
    EXPECT_EQ(status.code(), edit.code) << edit.title << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("database")) << edit.title;
  }
}

// As a user who may not write, in a child when this is root.
absl::StatusCode CodeOfOpeningAsNobody(const std::string& folder) {
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && setuid(65534) != 0) _exit(100);
    _exit(static_cast<int>(CodeOf(OpenStore(folder, {}))));
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  return static_cast<absl::StatusCode>(WEXITSTATUS(status));
}

TEST(SqliteJobStoreDamage, AReadOnlyFolderIsRefused) {
  ScratchFolder folder;
  ASSERT_EQ(chmod(folder.path().c_str(), 0555), 0);
  EXPECT_EQ(CodeOfOpeningAsNobody(folder.path()), kPermissionDenied);
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
}

TEST(SqliteJobStoreDamage, AReadOnlyDatabaseIsRefused) {
  ScratchFolder folder;
  MakeStore(folder.path());
  ASSERT_EQ(chmod((folder / "lock").c_str(), 0666), 0);
  ASSERT_EQ(chmod((folder / "jobs.sqlite3").c_str(), 0444), 0);
  ASSERT_EQ(chmod(folder.path().c_str(), 0555), 0);
  EXPECT_EQ(CodeOfOpeningAsNobody(folder.path()), kPermissionDenied);
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
}

TEST(SqliteJobStoreDamage, ASecondServerOnTheFolderIsRefused) {
  ScratchFolder folder;
  const auto first = OpenStore(folder.path(), {});
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(CodeOf(OpenStore(folder.path(), {})), kFailedPrecondition);
}

}  // namespace
}  // namespace attnprune::testing
