#include "server/queue/postgres/postgres_job_database.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/queue/postgres/change_feed.h"
#include "server/queue/postgres/connection_pool.h"
#include "server/queue/postgres/postgres_job_rows.h"
#include "server/queue/postgres/postgres_schema.h"
#include "server/queue/postgres/store_url.h"
#include "server/queue/postgres/transaction.h"

namespace attnprune::postgres {
namespace {

constexpr absl::Duration kConnectionWait = absl::Seconds(10);
constexpr absl::Duration kOutcomePatience = absl::Seconds(10);  // a restart takes some seconds

// Another try of a transaction: how often, and after what wait.
class Tries {
 public:
  // Whether there is one. A connection that was lost costs no wait: the next one is new. Who meets
  // another's transaction waits a random time, longer each time, so that not all come back at once.
  bool Next(Trouble trouble) {
    if (trouble == Trouble::kNone || ++tries_ > kMost) return false;
    if (trouble == Trouble::kConflict) {
      absl::SleepFor(absl::Microseconds(random_() % (uint64_t{500} << std::min(tries_, 6))));
    }
    return true;
  }

 private:
  static constexpr int kMost = 10;
  int tries_ = 0;
  std::minstd_rand random_{std::random_device{}()};
};

class PostgresJobDatabase final : public JobDatabase {
 public:
  PostgresJobDatabase(const PostgresJobStoreOptions& options, const StoreUrl& url)
      : clock_(options.clock),
        read_(BeginText(Access::kRead, options.statement_timeout)),
        write_(BeginText(Access::kWrite, options.statement_timeout)),
        pool_(url, options.max_connections, kConnectionWait),
        feed_(url, {.poll_interval = options.poll_interval, .on_warning = options.on_warning}) {}

  ConnectionPool& pool() { return pool_; }
  ChangeFeed& feed() { return feed_; }

  absl::Status Read(absl::FunctionRef<absl::Status(JobReader&)> body) override {
    return Repeat([&](Connection& connection) { return ReadOnce(connection, body); });
  }
  absl::Status Write(absl::FunctionRef<absl::Status(JobRows&)> body) override {
    bool wrote = false;
    ATTNPRUNE_RETURN_IF_ERROR(
        Repeat([&](Connection& connection) { return WriteOnce(connection, body, wrote); }));
    if (wrote) feed_.Announce();
    return absl::OkStatus();
  }
  bool WritesInParallel() const override { return true; }
  void Follow(const ChangeFollower& follower) override { feed_.Start(follower); }
  absl::Status CheckInPlace() override { return feed_.status(); }

 private:
  struct Outcome {
    absl::Status status;
    Trouble trouble = Trouble::kNone;  // why another try may do better
  };

  absl::Status Repeat(absl::FunctionRef<Outcome(Connection&)> transact);
  Outcome ReadOnce(Connection& connection, absl::FunctionRef<absl::Status(JobReader&)> body) const;
  Outcome WriteOnce(Connection& connection, absl::FunctionRef<absl::Status(JobRows&)> body,
                    bool& wrote);
  Outcome Conclude(Connection& connection, const PostgresJobRows& rows);
  absl::Time Now(absl::Time of_database) const {
    return clock_ != nullptr ? clock_->Now() : of_database;
  }

  const Clock* const clock_;  // nullptr: the database's time
  const std::string read_, write_;
  ConnectionPool pool_;
  ChangeFeed feed_;
};

absl::Status PostgresJobDatabase::Repeat(absl::FunctionRef<Outcome(Connection&)> transact) {
  Tries tries;
  while (true) {
    Outcome outcome;
    {
      ATTNPRUNE_ASSIGN_OR_RETURN(ConnectionPool::Loan connection, pool_.Take());
      outcome = transact(*connection);
    }
    if (outcome.status.ok() || !tries.Next(outcome.trouble)) return outcome.status;
  }
}

PostgresJobDatabase::Outcome PostgresJobDatabase::ReadOnce(
    Connection& connection, absl::FunctionRef<absl::Status(JobReader&)> body) const {
  const absl::StatusOr<absl::Time> now = Begin(connection, read_);
  absl::Status status = now.status();
  if (now.ok()) {
    PostgresJobRows rows(&connection, Access::kRead, Now(*now));
    status = body(rows);
  }
  Outcome outcome = {std::move(status), connection.trouble()};
  RollBack(connection);
  return outcome;
}

PostgresJobDatabase::Outcome PostgresJobDatabase::WriteOnce(
    Connection& connection, absl::FunctionRef<absl::Status(JobRows&)> body, bool& wrote) {
  const absl::StatusOr<absl::Time> now = Begin(connection, write_);
  if (!now.ok()) return {now.status(), connection.trouble()};
  PostgresJobRows rows(&connection, Access::kWrite, Now(*now));
  absl::Status status = body(rows);
  if (!status.ok()) {
    Outcome outcome = {std::move(status), connection.trouble()};
    RollBack(connection);
    return outcome;
  }
  wrote = rows.wrote();
  return Conclude(connection, rows);
}

PostgresJobDatabase::Outcome PostgresJobDatabase::Conclude(Connection& connection,
                                                           const PostgresJobRows& rows) {
  Commit commit = CommitTransaction(connection, rows);
  if (commit.outcome == CommitOutcome::kOpen) {
    commit.outcome = AskForOutcome(pool_.url(), rows.transaction_id(), kOutcomePatience);
  }
  switch (commit.outcome) {
    case CommitOutcome::kCommitted:
      return {absl::OkStatus()};
    case CommitOutcome::kNotWritten:
      return {std::move(commit.status), connection.trouble()};
    case CommitOutcome::kOpen:
      break;
  }
  return {absl::UnavailableError(
      absl::StrCat(commit.status.message(),
                   "; the connection was lost while it was asked to write, and whether "
                   "it has is not known"))};
}

// Of a dump restored into another cluster, whose transactions have other numbers: what changed in
// one that is to come yet would be news at every look.
constexpr char kForgetOtherClusters[] =
    "UPDATE attnprune.jobs SET changed = pg_current_xact_id()"
    " WHERE changed >= pg_snapshot_xmax(pg_current_snapshot())";

void WarnOfSettings(Connection& connection, const PostgresJobStoreOptions& options) {
  if (!options.on_warning) return;
  for (const char* const setting : {"fsync", "synchronous_commit", "full_page_writes"}) {
    const absl::StatusOr<Result> value =
        connection.Query("SELECT current_setting($1)", {std::string(setting)});
    if (!value.ok() || value->Text(0, 0) != "off") continue;
    options.on_warning(absl::StrCat("the database's ", setting,
                                    " is off: jobs that were accepted are lost when its machine "
                                    "fails"));
  }
}

// Leases and what is overdue are by the database's clock, but a worker looks at its own for the
// timeout of the job that it runs.
void WarnOfClocks(Connection& connection, const PostgresJobStoreOptions& options) {
  constexpr absl::Duration kMuch = absl::Seconds(2);
  const absl::StatusOr<absl::Time> now =
      Begin(connection, BeginText(Access::kRead, options.statement_timeout));
  RollBack(connection);
  if (!options.on_warning || !now.ok()) return;
  const absl::Duration ahead = *now - SteadyNow();
  if (absl::AbsDuration(ahead) <= kMuch) return;
  options.on_warning(absl::StrCat("the database's clock is ", absl::FormatDuration(ahead),
                                  " ahead of this machine's: timeouts of jobs are off by as much"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobDatabase>> OpenPostgresJobDatabase(
    const PostgresJobStoreOptions& options) {
  if (options.max_connections < 1) {
    return MustError("store_connections", "be at least 1", options.max_connections);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const StoreUrl url, ParseStoreUrl(options.url, options.password_file));
  auto database = std::make_unique<PostgresJobDatabase>(options, url);
  {
    absl::StatusOr<ConnectionPool::Loan> connection = database->pool().Take();
    if (!connection.ok()) {
      return absl::Status(connection.status().code(),
                          absl::StrCat("store: ", connection.status().message()));
    }
    ATTNPRUNE_RETURN_IF_ERROR(PrepareSchema(**connection, options.tensors));
    ATTNPRUNE_RETURN_IF_ERROR((*connection)->Script(kForgetOtherClusters).status());
    ATTNPRUNE_RETURN_IF_ERROR(database->feed().SetBegin(**connection));
    WarnOfSettings(**connection, options);
    WarnOfClocks(**connection, options);
  }
  return database;
}

}  // namespace attnprune::postgres
