// What a PostgreSQL job store does when the database, or another session, is in its way.
#include <gmock/gmock.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "tests/server/queue/postgres/answer_thief.h"
#include "tests/server/queue/postgres/postgres_place.h"

namespace attnprune::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

absl::Status StatusOf(const PostgresJobStoreOptions& options) {
  return OpenPostgresJobStore(options).status();
}

// --- Lost connections ---

TEST(PostgresTrouble, ALostConnectionIsMadeAnewUnseen) {
  const SharedDatabase database;
  const auto store = database.Open("one");
  postgres::Connection administrator = database.Connect();
  const std::string id = store->Create({})->job.id;
  EndOtherSessions(administrator);
  EXPECT_EQ(store->Get(id)->state, JobState::kQueued);
  EndOtherSessions(administrator);
  EXPECT_TRUE(store->Create({}).ok());
}

// The session ends itself at its first commit, whose transaction is rolled back by that.
TEST(PostgresTrouble, ACommitThatDidNotComeAboutIsTriedAgain) {
  const SharedDatabase database;
  const auto store = database.Open("one");
  ASSERT_EQ(
      database.Ask("CREATE SEQUENCE attnprune.tries;"
                   "CREATE FUNCTION attnprune.die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                   " IF nextval('attnprune.tries') = 1 THEN"
                   " PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$;"
                   "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON attnprune.jobs"
                   " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION attnprune.die()"),
      "");
  const auto made = store->Create({});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(database.Ask("SELECT last_value FROM attnprune.tries"), "2");
  EXPECT_EQ(database.Ask("SELECT string_agg(id, ' ') FROM attnprune.jobs"), made->job.id);
}

TEST(PostgresTrouble, ACommitWhoseAnswerIsLostIsNotWrittenTwice) {
  const SharedDatabase database;
  AnswerThief thief(PostgresServer::Shared().folder());
  PostgresJobStoreOptions options = database.OptionsOf("one");
  options.url = absl::StrCat(options.url, "&host=", thief.folder());
  const auto store = SharedDatabase::Open(options);
  const std::string id = store->Create({})->job.id;
  const JobRecord job = **store->Claim("one", kTestLease);
  for (int i = 0; i < 5; ++i) {
    thief.StealNextCommit();
    const auto appended = store->AppendEvents({id, job.fence}, {{EventKind::kProgress, "once"}});
    ASSERT_TRUE(appended.ok()) << appended.status();
    EXPECT_EQ(*appended, 3 + i);
    EXPECT_EQ(thief.stolen(), i + 1);
  }
  EXPECT_EQ(store->ReadEvents(id, 0, 100)->size(), 7u);
}

TEST(PostgresTrouble, ACrashOfTheDatabaseLosesNothingThatWasPromised) {
  PostgresServer& server = PostgresServer::Shared();
  const SharedDatabase database;
  const auto store = database.Open("one");
  const std::string id = store->Create({})->job.id;
  server.Crash();
  const absl::Status created = store->Create({}).status();
  EXPECT_EQ(created.code(), absl::StatusCode::kUnavailable) << created;
  EXPECT_EQ(store->Get(id).status().code(), absl::StatusCode::kUnavailable);
  server.Start();
  EXPECT_EQ(store->Get(id)->state, JobState::kQueued);
  EXPECT_EQ((*store->Claim("worker", kTestLease))->id, id);
}

// --- Waiting ---

TEST(PostgresTrouble, AStatementThatTakesTooLongIsUnavailableAndWritesNothing) {
  const SharedDatabase database;
  PostgresJobStoreOptions options = database.OptionsOf("one");
  options.statement_timeout = absl::Milliseconds(50);
  const auto store = SharedDatabase::Open(options);
  const std::string id = store->Create({})->job.id;
  postgres::Connection other = database.Connect();
  ASSERT_TRUE(other.Script("BEGIN; SELECT 1 FROM attnprune.jobs FOR UPDATE").ok());
  const auto cancelled = store->RequestCancel(id);
  EXPECT_EQ(cancelled.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(cancelled.status().message()), HasSubstr("statement timeout"));
  EXPECT_EQ(store->Get(id)->state, JobState::kQueued);
  EXPECT_FALSE(store->Claim("worker", kTestLease)->has_value()) << "another claims it";
  ASSERT_TRUE(other.Script("ROLLBACK").ok());
  EXPECT_EQ(store->RequestCancel(id)->state, JobState::kCancelled);
}

TEST(PostgresTrouble, ThePoolIsBoundedAndServesMoreThreadsThanItHasConnections) {
  const SharedDatabase database;
  PostgresJobStoreOptions options = database.OptionsOf("one");
  options.max_connections = 2;
  const auto store = SharedDatabase::Open(options);
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) ASSERT_TRUE(store->Create({}).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((*store->CountByState())[JobState::kQueued], 60);
  EXPECT_LE(std::stoi(database.Ask("SELECT count(*) FROM pg_stat_activity WHERE datname ="
                                   " current_database() AND pid <> pg_backend_pid()")),
            3);
}

// --- Opening ---

TEST(PostgresTrouble, ANewerSchemaIsRefusedUnlessItSaysThatThisVersionCanUseIt) {
  const SharedDatabase database;
  const std::string id = database.Open("one")->Create({})->job.id;
  ASSERT_EQ(database.Ask("UPDATE attnprune.store SET version = 4, usable_by = 3"), "");
  const absl::Status refused = StatusOf(database.OptionsOf("one"));
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("got schema 4"));
  ASSERT_EQ(database.Ask("UPDATE attnprune.store SET version = 3, usable_by = 2;"
                         "ALTER TABLE attnprune.jobs ADD COLUMN newer bigint"),
            "");
  EXPECT_EQ(database.Open("one")->Get(id)->state, JobState::kQueued);
}

TEST(PostgresTrouble, ADatabaseOfSchema1IsBroughtUpToDateBesideServersThatUseIt) {
  const SharedDatabase database;
  const auto old = database.Open("old");
  const std::string id = old->Create({})->job.id;
  ASSERT_EQ(database.Ask("SET search_path = attnprune; DROP TABLE blob_place, blobs, blob_objects,"
                         " blob_uploads, duties; UPDATE store SET version = 1"),
            "");
  const auto newer = database.Open("new");
  EXPECT_EQ(database.Ask("SELECT version FROM attnprune.store"), "2");
  EXPECT_EQ(database.Ask("SELECT usable_by FROM attnprune.store"), "1");
  EXPECT_EQ(database.Ask("SELECT count(*) FROM attnprune.blobs"), "0");
  EXPECT_EQ(newer->Get(id)->state, JobState::kQueued);
  EXPECT_TRUE(old->RequestCancel(id).ok());
}

TEST(PostgresTrouble, ServersThatOpenAnEmptyDatabaseAtOnceMakeItOnce) {
  const SharedDatabase database;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const absl::Status status = StatusOf(database.OptionsOf(absl::StrCat("server", i)));
      EXPECT_TRUE(status.ok()) << status;
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(PostgresTrouble, TensorsThatAreElsewhereAreRefusedUnlessThereAreNoJobs) {
  const SharedDatabase database;
  PostgresJobStoreOptions elsewhere = database.OptionsOf("one");
  elsewhere.tensors = "elsewhere";
  database.Open("one");
  EXPECT_TRUE(StatusOf(elsewhere).ok());
  ASSERT_TRUE(SharedDatabase::Open(elsewhere)->Create({}).ok());
  const absl::Status refused = StatusOf(database.OptionsOf("one"));
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("must be the folder of the tensors of the "
                                                        "database's jobs, elsewhere, got here"));
}

TEST(PostgresTrouble, SaysWhyItCannotConnect) {
  const SharedDatabase database;
  struct Row {
    std::string url;
    absl::StatusCode code;
    std::string words;
  };
  const std::string host = PostgresServer::Shared().UrlOf("nowhere");
  for (const Row& row : {
           Row{"postgresql://127.0.0.1:1/x", absl::StatusCode::kUnavailable, "Connection refused"},
           Row{host, absl::StatusCode::kFailedPrecondition, "database \"nowhere\" does not exist"},
           Row{"mysql://host/x", absl::StatusCode::kInvalidArgument,
               "store must be a URL such as postgresql://user@host:5432/database, got "
               "\"mysql://host/x\""},
           Row{"postgresql://me:se%cret@host/x", absl::StatusCode::kInvalidArgument,
               "got \"postgresql://me:***@host/x\""},
           Row{"postgresql://host/x?password=secret&nonsense=1", absl::StatusCode::kInvalidArgument,
               "password=***&nonsense=1"},
       }) {
    PostgresJobStoreOptions options = database.OptionsOf("one");
    options.url = row.url;
    const absl::Status status = StatusOf(options);
    EXPECT_EQ(status.code(), row.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.words));
    EXPECT_THAT(std::string(status.message()), HasSubstr("store"));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("cret")));
  }
}

TEST(PostgresTrouble, APasswordFromAFileIsTakenAndAWrongOneToldWithoutIt) {
  const SharedDatabase database;
  ASSERT_EQ(database.Ask("DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN SUPERUSER"
                         " PASSWORD 'opensesame'"),
            "");
  PostgresJobStoreOptions options = database.OptionsOf("one");
  options.url += "&user=guarded";
  options.password_file = database.folder() / "password";
  WriteAll(options.password_file, "opensesame\nanother line\n");
  EXPECT_TRUE(StatusOf(options).ok());
  WriteAll(options.password_file, "openbarley\n");
  const absl::Status refused = StatusOf(options);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnauthenticated) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("password authentication failed"));
  EXPECT_THAT(std::string(refused.message()), Not(HasSubstr("openbarley")));
  WriteAll(options.password_file, "\n");
  EXPECT_EQ(FieldAtFault(StatusOf(options)), "store_password_file");
  options.password_file = database.folder() / "nowhere";
  EXPECT_EQ(FieldAtFault(StatusOf(options)), "store_password_file");
}

// --- Behind pgbouncer ---

TEST(PostgresTrouble, WorksBehindAPoolerThatLendsConnectionsForATransaction) {
  const SharedDatabase database;
  const Pooler pooler(PostgresServer::Shared());
  PostgresJobStoreOptions options = database.OptionsOf("one");
  options.url = pooler.UrlOf(options.url);
  std::vector<std::string> warnings;
  Mutex mutex;
  CondVar warned;
  options.on_warning = [&](absl::string_view text) {
    {
      const MutexLock lock(&mutex);
      warnings.emplace_back(text);
    }
    warned.NotifyAll();
  };
  const auto store = SharedDatabase::Open(options);
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 10; ++round) {
        ASSERT_TRUE(store->Create({}).ok());
        const auto job = store->Claim("worker", kTestLease);
        ASSERT_TRUE(job.ok()) << job.status();
        const JobClaim claim = {(*job)->id, (*job)->fence};
        ASSERT_TRUE(store->AppendEvents(claim, {{EventKind::kProgress, "p"}}).ok());
        ASSERT_TRUE(store->Finish(claim, JobState::kSucceeded, {}, "").ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((*store->CountByState())[JobState::kSucceeded], 60);
  const MutexLock lock(&mutex);
  EXPECT_TRUE(warned.WaitFor(&mutex, absl::Seconds(60), [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return std::any_of(warnings.begin(), warnings.end(), [](const std::string& text) {
      return text.find("a pooler stands before the database") != std::string::npos;
    });
  }));
}

}  // namespace
}  // namespace attnprune::testing
