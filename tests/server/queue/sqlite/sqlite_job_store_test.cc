// The conformance suite over SQLite, and what only SQLite's store promises.
#include "server/queue/sqlite/sqlite_job_store.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "server/queue/sqlite/sqlite.h"
#include "tests/server/queue/job_store_conformance.h"
#include "tests/server/queue/sqlite/sqlite_place.h"
#include "tests/server/queue/sqlite/sqlite_work.h"
#include "tests/support/paths.h"

namespace attnprune::testing {
namespace {

class SqlitePlace final : public StoreUnderTest {
 public:
  SqlitePlace() { Open(); }
  JobStore& store() override { return *opened_->store; }
  SteppedClock& clock() override { return clock_; }

  // From a copy of the files as they are, the log not yet folded in: what kill -9 leaves.
  void Reopen() override {
    const std::string next = scratch_ / std::to_string(++opens_);
    std::filesystem::copy(folder_, next, std::filesystem::copy_options::recursive);
    std::filesystem::remove(next + "/jobs.sqlite3-shm");
    opened_.reset();
    folder_ = next;
    Open();
  }

 private:
  void Open() {
    auto opened = OpenStore(folder_, {.max_queued_jobs = kMaxQueued, .clock = &clock_});
    if (!opened.ok()) {
      std::cerr << "cannot open the store: " << opened.status() << "\n";
      std::abort();  // no test can go on
    }
    opened_.emplace(*std::move(opened));
  }

  SteppedClock clock_;
  ScratchFolder scratch_;
  int opens_ = 0;
  std::string folder_ = scratch_ / "0";
  absl::optional<OpenedStore> opened_;
};

INSTANTIATE_TEST_SUITE_P(Sqlite, JobStoreConformance,
                         ::testing::Values([] { return std::make_unique<SqlitePlace>(); }),
                         [](const auto&) { return "JobStore"; });

size_t FilesIn(const std::string& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(SqliteJobStore, KeepsOneCheckpointFileAJobAndNoneAfterTheEnd) {
  ScratchFolder folder;
  const auto opened = OpenStore(folder.path(), {});
  ASSERT_TRUE(opened.ok()) << opened.status();
  JobStore& store = *opened->store;
  ASSERT_TRUE(store.Create({}).ok());
  const JobRecord job = **store.Claim("worker", absl::Seconds(1));
  const JobClaim claim = {job.id, job.fence};
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(store.SaveCheckpoint(claim, "bytes").ok());
  EXPECT_EQ(FilesIn(folder / "checkpoints"), 1u);
  ASSERT_TRUE(store.Finish(claim, JobState::kSucceeded, {}, "").ok());
  EXPECT_EQ(FilesIn(folder / "checkpoints"), 0u);
}

TEST(SqliteJobStore, KeepsOneCheckpointFileAPartAndNoneAfterTheEnd) {
  ScratchFolder folder;
  const auto opened = OpenStore(folder.path(), {});
  ASSERT_TRUE(opened.ok()) << opened.status();
  JobStore& store = *opened->store;
  ASSERT_TRUE(store.Create({.kind = JobKind::kRun}).ok());
  const JobRecord run = **store.Claim("worker", absl::Seconds(1));
  const JobClaim claim = {run.id, run.fence};
  std::vector<JobClaim> parts;
  for (int part = 0; part < 3; ++part) {
    ASSERT_TRUE(store.OpenPart(claim, part, {}).ok());
    parts.push_back((*store.ClaimPart(absl::Hours(1)))->claim);
  }
  for (int i = 0; i < 3; ++i) {
    for (const JobClaim& part : parts) ASSERT_TRUE(store.SaveCheckpoint(part, "bytes").ok());
  }
  EXPECT_EQ(FilesIn(folder / "checkpoints"), 3u);
  ASSERT_TRUE(store.FinishMethod(parts[0], 0, "result", {}).ok());
  EXPECT_EQ(FilesIn(folder / "checkpoints"), 2u);
  ASSERT_TRUE(store.FinishPart(parts[1]).ok());
  EXPECT_EQ(FilesIn(folder / "checkpoints"), 1u);
  ASSERT_TRUE(store.Finish(claim, JobState::kFailed, {}, "").ok());
  EXPECT_EQ(FilesIn(folder / "checkpoints"), 0u);
}

// Made by attnprune 0.1.0 of before schema 2: a job that has succeeded, one of 23 progress events
// that the server was drained in, one that was never claimed.
void CopyOldDatabase(const std::string& folder) {
  std::filesystem::copy_file(TestData("/store/jobs-schema1.sqlite3"), folder + "/jobs.sqlite3");
  std::filesystem::permissions(folder + "/jobs.sqlite3", std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
}

TEST(SqliteJobStore, TakesUpADatabaseOfSchema1WithAllThatIsInIt) {
  ScratchFolder folder;
  CopyOldDatabase(folder.path());
  std::string made;
  for (int opening = 0; opening < 2; ++opening) {  // the second one finds it up to date
    const auto opened = OpenStore(folder.path(), {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    JobStore& store = *opened->store;
    const JobPage page = *store.List({}, 10, "");
    ASSERT_GE(page.jobs.size(), 3u);
    const JobRecord& first = page.jobs.back();
    EXPECT_EQ(first.id, "7njvxh07h6kf");
    EXPECT_EQ(first.state, JobState::kSucceeded);
    EXPECT_EQ(first.labels.at("made-by"), "0.1.0");
    EXPECT_EQ(first.results.size(), 1u);
    EXPECT_EQ(first.origin.request_id, "");
    EXPECT_EQ(store.ReadEvents("gw9jrbmrdxqx", 0, 100)->size(), 24u);
    if (opening == 1) {
      EXPECT_EQ(store.Get(made)->origin.request_id, "new");
      EXPECT_EQ((**store.Claim("worker", absl::Seconds(1))).id, "ct712hpn2dxy") << "priority 5";
      EXPECT_EQ((**store.Claim("worker", absl::Seconds(1))).id, "gw9jrbmrdxqx");
    } else {
      NewJob job;
      job.origin.request_id = "new";
      made = store.Create(job)->job.id;
    }
  }
}

int64_t SchemaVersion(const std::string& folder) {
  auto database = sqlite::Database::Open(folder + "/jobs.sqlite3");
  return database.ok() ? *database->ReadInteger("PRAGMA user_version") : -1;
}

// Its tables were those of schema 3, but all of its progress is of one kind.
TEST(SqliteJobStore, TakesUpADatabaseOfSchema2WhoseProgressGoesFirst) {
  ScratchFolder folder;
  const std::vector<NewEvent> old(4, ProgressEvent("evaluated or not"));  // 3 to 6
  std::string id;
  {
    const auto opened = OpenStore(folder.path(), {});
    id = opened->store->Create({})->job.id;
    const JobRecord job = **opened->store->Claim("worker", absl::Seconds(1));
    ASSERT_TRUE(opened->store->AppendEvents({id, job.fence}, old).ok());
  }
  {
    std::filesystem::remove(folder / "jobs.watermark");  // those versions kept none
    auto database = sqlite::Database::Open(folder / "jobs.sqlite3");
    ASSERT_TRUE(database
                    ->ExecuteScript("DROP TABLE job_states; DROP TABLE job_parts;"
                                    "DROP TABLE job_part_checkpoints; DROP TABLE job_tenants;"
                                    "DROP TABLE tenant_tensors; DROP INDEX jobs_by_tensor;"
                                    "DROP TABLE tenant_turns; DROP TABLE job_history;"
                                    "PRAGMA user_version = 2")
                    .ok());
  }
  {
    const auto opened = OpenStore(folder.path(), {});  // 7: queued again
    ASSERT_TRUE(opened.ok()) << opened.status();
    JobStore& store = *opened->store;
    const JobRecord job = **store.Claim("worker", absl::Seconds(1));  // 8: running
    const std::vector<NewEvent> evaluated(3, {EventKind::kEvaluated, "e"});
    ASSERT_EQ(*store.AppendEvents({id, job.fence}, evaluated), 9);
    ASSERT_TRUE(store.CompactEvents(id, {.progress = 4}).ok());
    const std::vector<StoredEvent> events = *store.ReadEvents(id, 0, 100);
    std::vector<int64_t> kept;
    for (const StoredEvent& event : events) {
      if (IsProgress(event.kind)) kept.push_back(event.sequence);
    }
    EXPECT_THAT(kept, ::testing::ElementsAre(3, 9, 10, 11));
  }
  EXPECT_EQ(SchemaVersion(folder.path()), 8);
}

// Its parts kept no checkpoint.
TEST(SqliteJobStore, TakesUpADatabaseOfSchema5WithItsParts) {
  ScratchFolder folder;
  {
    const auto opened = OpenStore(folder.path(), {});
    JobStore& store = *opened->store;
    ASSERT_TRUE(store.Create({.kind = JobKind::kRun}).ok());
    const JobRecord run = **store.Claim("worker", absl::Seconds(1));
    ASSERT_TRUE(store.OpenPart({run.id, run.fence}, 0, {"state"}).ok());
  }
  {
    std::filesystem::remove(folder / "jobs.watermark");  // those versions kept none
    auto database = sqlite::Database::Open(folder / "jobs.sqlite3");
    ASSERT_TRUE(database
                    ->ExecuteScript("DROP TABLE job_part_checkpoints; DROP TABLE job_tenants;"
                                    "DROP TABLE tenant_tensors; DROP INDEX jobs_by_tensor;"
                                    "DROP TABLE tenant_turns; DROP TABLE job_history;"
                                    "PRAGMA user_version = 5")
                    .ok());
  }
  const auto opened = OpenStore(folder.path(), {});
  ASSERT_TRUE(opened.ok()) << opened.status();
  JobStore& store = *opened->store;
  const JobRecord run = **store.Claim("worker", absl::Seconds(1));
  const ClaimedPart part = **store.ClaimOwnPart({run.id, run.fence});
  EXPECT_THAT(part.states, ::testing::ElementsAre("state"));
  EXPECT_FALSE(store.ReadCheckpoint(part.claim)->has_value());
  ASSERT_TRUE(store.SaveCheckpoint(part.claim, "bytes").ok());
  EXPECT_EQ(**store.ReadCheckpoint(part.claim), "bytes");
}

TEST(SqliteJobStore, TakesUpADatabaseOfSchema6WhoseJobsAreNoTenants) {
  ScratchFolder folder;
  std::string id;
  {
    const auto opened = OpenStore(folder.path(), {});
    NewJob job;
    job.request_id = "r";
    job.tensor_digests = {"input"};
    id = opened->store->Create(job)->job.id;
  }
  {
    std::filesystem::remove(folder / "jobs.watermark");  // those versions kept none
    auto database = sqlite::Database::Open(folder / "jobs.sqlite3");
    ASSERT_TRUE(database
                    ->ExecuteScript("DROP TABLE job_tenants; DROP TABLE tenant_tensors;"
                                    "DROP INDEX jobs_by_tensor; DROP TABLE tenant_turns;"
                                    "DROP TABLE job_history; PRAGMA user_version = 6")
                    .ok());
  }
  const auto opened = OpenStore(folder.path(), {});
  ASSERT_TRUE(opened.ok()) << opened.status();
  JobStore& store = *opened->store;
  EXPECT_EQ(store.Get(id)->tenant, "");
  EXPECT_EQ(store.Get(id)->request_id, "r");
  EXPECT_EQ(store.List({.tenant = ""}, 10, "")->jobs.size(), 1U);
  EXPECT_TRUE(store.List({.tenant = "a"}, 10, "")->jobs.empty());
  const std::vector<std::string> input = {"input"};
  EXPECT_TRUE(store.FindOwnTensors("a", input)->empty());
}

TEST(SqliteJobStore, LeavesADamagedDatabaseOfSchema1AsItWas) {
  ScratchFolder folder;
  CopyOldDatabase(folder.path());
  {
    auto database = sqlite::Database::Open(folder / "jobs.sqlite3");
    ASSERT_TRUE(database.ok());
    ASSERT_TRUE(database->Execute("UPDATE jobs SET priority = 7").ok());
  }
  EXPECT_EQ(CodeOf(OpenStore(folder.path(), {})), absl::StatusCode::kDataLoss);
  EXPECT_EQ(SchemaVersion(folder.path()), 1);
  auto database = sqlite::Database::Open(folder / "jobs.sqlite3");
  ASSERT_TRUE(database.ok());
  EXPECT_EQ(*database->ReadInteger("SELECT count(*) FROM sqlite_schema WHERE name = 'job_origins'"),
            0);
}

class StateRecorder final : public JobStoreListener {
 public:
  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override {
    for (const StoredEvent& event : events) {
      heard.push_back(absl::StrCat(job_id, " ", ToString(event.state), " ", event.attempt, " ",
                                   event.origin.request_id, ": ", event.payload));
    }
  }
  void OnCancelRequested(const std::string&) override {}

  std::vector<std::string> heard;
};

TEST(SqliteJobStore, TellsOfTheJobsThatItsOpeningTakesBack) {
  ScratchFolder folder;
  std::vector<std::string> ids;
  {
    const auto opened = OpenStore(folder.path(), {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    JobStore& store = *opened->store;
    NewJob job;
    job.origin.request_id = "order/66";
    for (int i = 0; i < 4; ++i) ids.push_back(store.Create(job)->job.id);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(store.Claim("worker", absl::Seconds(1)).ok());
    ASSERT_TRUE(store.SaveCheckpoint({ids[0], 1}, "bytes").ok());
    ASSERT_TRUE(store.RequestCancel(ids[2]).ok());
  }
  StateRecorder recorder;
  ASSERT_TRUE(OpenStore(folder.path(), {.listener = &recorder}).ok());
  const std::string lost = "worker lost: the server was killed";
  EXPECT_THAT(recorder.heard,
              ::testing::ElementsAre(
                  ids[0] + " QUEUED 1 order/66: " + lost + "; goes on from its checkpoint",
                  ids[1] + " QUEUED 1 order/66: " + lost + "; there is no checkpoint",
                  ::testing::StartsWith(ids[2] + " CANCELLED 1 order/66: ")));
}

TEST(SqliteJobStore, RemovesLeftoversOfCheckpointsOnOpening) {
  ScratchFolder folder;
  { ASSERT_TRUE(OpenStore(folder.path(), {}).ok()); }
  std::ofstream(folder / "checkpoints/job.1.1") << "nobody's";
  std::ofstream(folder / "checkpoints/job.1.2.tmp-7-0") << "half of";
  ASSERT_TRUE(OpenStore(folder.path(), {}).ok());
  EXPECT_EQ(FilesIn(folder / "checkpoints"), 0u);
}

TEST(SqliteJobStore, LeavesFilesThatAreNoCheckpointsOfItsOwn) {
  ScratchFolder folder;
  { ASSERT_TRUE(OpenStore(folder.path(), {}).ok()); }
  const std::vector<std::string> names = {"thesis.tex", "job.1", "job.1.x",
                                          "Job.1.1",    ".1.1",  "a.tmp-1-1"};
  for (const std::string& name : names) std::ofstream(folder / ("checkpoints/" + name)) << "x";
  ASSERT_TRUE(OpenStore(folder.path(), {}).ok());
  EXPECT_EQ(FilesIn(folder / "checkpoints"), names.size());
}

TEST(SqliteJobStore, OpensNoFolderOfCheckpointsThatIsALink) {
  ScratchFolder folder, other;
  std::ofstream(other / "job.1.1") << "somebody else's";
  std::filesystem::create_directory_symlink(other.path(), folder / "checkpoints");
  const absl::Status status = OpenStore(folder.path(), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("must be a folder, is a link"));
  EXPECT_EQ(FilesIn(other.path()), 1u);
}

TEST(SqliteJobStore, SaysThatACheckpointIsDamagedAndTakesANewOne) {
  ScratchFolder folder;
  const auto opened = OpenStore(folder.path(), {});
  ASSERT_TRUE(opened.ok());
  JobStore& store = *opened->store;
  ASSERT_TRUE(store.Create({}).ok());
  const JobRecord job = **store.Claim("worker", absl::Seconds(1));
  const JobClaim claim = {job.id, job.fence};
  ASSERT_TRUE(store.SaveCheckpoint(claim, "bytes").ok());
  const auto file = *std::filesystem::directory_iterator(folder / "checkpoints");
  std::ofstream(file.path()) << "Bytes";
  EXPECT_EQ(CodeOf(store.ReadCheckpoint(claim)), absl::StatusCode::kDataLoss);
  std::filesystem::remove(file.path());
  EXPECT_EQ(CodeOf(store.ReadCheckpoint(claim)), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(store.SaveCheckpoint(claim, "new").ok());
  EXPECT_EQ(*store.ReadCheckpoint(claim), "new");
}

TEST(SqliteJobStore, AnUnwritableCheckpointLeavesTheOldOne) {
  ScratchFolder folder;
  const auto opened = OpenStore(folder.path(), {});
  ASSERT_TRUE(opened.ok());
  JobStore& store = *opened->store;
  ASSERT_TRUE(store.Create({}).ok());
  const JobRecord job = **store.Claim("worker", absl::Seconds(1));
  const JobClaim claim = {job.id, job.fence};
  ASSERT_TRUE(store.SaveCheckpoint(claim, "old").ok());
  std::filesystem::create_directory(
      folder / ("checkpoints/" + job.id + "." + std::to_string(job.fence) + ".2"));
  EXPECT_FALSE(store.SaveCheckpoint(claim, "new").ok());
  EXPECT_EQ(*store.ReadCheckpoint(claim), "old");
}

// What a call does in a store with so many jobs queued.
struct WorkOfCalls {
  SqliteWork create, list, claim;
};

WorkOfCalls WorkWithQueued(int queued) {
  ScratchFolder folder;
  const auto opened = OpenStore(folder.path(), {});
  EXPECT_TRUE(opened.ok()) << opened.status();
  JobStore& store = *opened->store;
  const auto create = [&](int i) {
    NewJob job = WithLabels({{"owner", std::to_string(i % 7)}, {"kind", "speed"}});
    job.priority = i % 11;
    job.request_id = std::to_string(i);
    job.spec = std::string(2000, 'x');
    EXPECT_TRUE(store.Create(job).ok());
  };
  for (int i = 0; i < queued; ++i) create(i);
  const SqliteWork start = SqliteWorkSoFar();
  create(queued);
  const SqliteWork created = SqliteWorkSoFar();
  EXPECT_EQ(store.List({{JobState::kQueued}, {{"owner", "3"}}}, 10, "")->jobs.size(), 10u);
  const SqliteWork listed = SqliteWorkSoFar();
  EXPECT_TRUE((*store.Claim("worker", absl::Seconds(1))).has_value());
  return {created - start, listed - created, SqliteWorkSoFar() - listed};
}

// A long queue may cost Create and a page of List some steps along an index, and Claim nothing.
TEST(SqliteJobStore, WorksNoHarderForALongQueue) {
  CountSqliteWork();
  const WorkOfCalls few = WorkWithQueued(200), many = WorkWithQueued(1200);
  std::cout << "create " << few.create.operations << " and " << many.create.operations
            << " operations, list " << few.list.operations << " and " << many.list.operations
            << ", claim " << few.claim.operations << " and " << many.claim.operations << "\n";
  EXPECT_EQ(many.create.commits, 1);
  EXPECT_EQ(many.create.statements, few.create.statements);
  EXPECT_EQ(many.create.scanned, few.create.scanned);
  EXPECT_LE(many.create.operations - few.create.operations, 1000 * 5);
  EXPECT_EQ(many.list.scanned, few.list.scanned);
  EXPECT_LE(many.list.operations - few.list.operations, 1000 * 5);
  EXPECT_EQ(many.claim.commits, 1);
  EXPECT_EQ(many.claim.scanned, few.claim.scanned);
  EXPECT_LE(many.claim.operations, few.claim.operations * 3 / 2);
}

// The tester's test.
TEST(SqliteJobStore, IsSeenToWorkHarderWithoutAnIndex) {
  CountSqliteWork();
  ScratchFolder folder;
  const auto opened = OpenStore(folder.path(), {});
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(opened->store->Create({}).ok());
  auto database = sqlite::Database::Open(folder / "jobs.sqlite3");
  const SqliteWork before = SqliteWorkSoFar();
  ASSERT_EQ(*database->ReadInteger("SELECT count(*) FROM jobs WHERE fence < 0"), 0);
  EXPECT_GE((SqliteWorkSoFar() - before).scanned, 99);
  EXPECT_GE((SqliteWorkSoFar() - before).operations, 100);
}

}  // namespace
}  // namespace attnprune::testing
