#include "server/queue/postgres/transaction.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"

namespace attnprune::postgres {
namespace {

// A server that was stopped in the middle of a transaction holds others up for no longer.
constexpr char kIdleTimeout[] = "10s";
constexpr absl::Duration kAskAgain = absl::Milliseconds(100);

// Nothing while the transaction is under way, or nobody answers.
absl::optional<CommitOutcome> AskOnce(const StoreUrl& url, const std::string& transaction_id) {
  absl::StatusOr<Connection> connection = Connection::Open(url);
  if (!connection.ok()) return absl::nullopt;
  const absl::StatusOr<Result> answer =
      connection->Query("SELECT coalesce(pg_xact_status($1::xid8), '')", {transaction_id});
  if (!answer.ok()) return absl::nullopt;
  const std::string status = answer->Text(0, 0);
  if (status == "committed") return CommitOutcome::kCommitted;
  if (status == "aborted") return CommitOutcome::kNotWritten;
  if (status == "in progress") return absl::nullopt;
  return CommitOutcome::kOpen;
}

}  // namespace

std::string BeginText(Access access, absl::Duration statement_timeout) {
  return absl::StrCat(access == Access::kRead ? "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
                                              : "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
                      "; SET LOCAL search_path = attnprune; SET LOCAL statement_timeout = ",
                      absl::ToInt64Milliseconds(statement_timeout),
                      "; SET LOCAL idle_in_transaction_session_timeout = '", kIdleTimeout,
                      "'; SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
}

absl::StatusOr<absl::Time> Begin(Connection& connection, const std::string& begin_text) {
  connection.ClearTrouble();
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result begun, connection.Script(begin_text));
  return absl::FromUnixMicros(begun.Integer(0, 0));
}

// Keeps what trouble there was before.
void RollBack(Connection& connection) {
  if (connection.trouble() != Trouble::kLost) connection.Script("ROLLBACK").status().IgnoreError();
}

Commit CommitTransaction(Connection& connection, const PostgresJobRows& rows) {
  const absl::StatusOr<Result> committed = connection.Script("COMMIT");
  if (committed.ok() && committed->tag() == "COMMIT") {
    return {CommitOutcome::kCommitted, absl::OkStatus()};
  }
  if (committed.ok()) {  // a statement failed, and nobody noticed
    return {CommitOutcome::kNotWritten, absl::InternalError("database: rolled back")};
  }
  const bool open = rows.wrote() && connection.trouble() == Trouble::kLost;
  return {open ? CommitOutcome::kOpen : CommitOutcome::kNotWritten, committed.status()};
}

CommitOutcome AskForOutcome(const StoreUrl& url, const std::string& transaction_id,
                            absl::Duration patience) {
  if (transaction_id.empty()) return CommitOutcome::kOpen;
  const absl::Time end = SteadyNow() + patience;
  while (true) {
    const absl::optional<CommitOutcome> outcome = AskOnce(url, transaction_id);
    if (outcome.has_value()) return *outcome;
    if (SteadyNow() >= end) return CommitOutcome::kOpen;
    absl::SleepFor(kAskAgain);
  }
}

}  // namespace attnprune::postgres
