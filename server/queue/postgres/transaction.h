// Transactions on PostgreSQL: how one begins, and how it is known to have ended.
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_TRANSACTION_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_TRANSACTION_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/queue/postgres/connection.h"
#include "server/queue/postgres/postgres_job_rows.h"

namespace attnprune::postgres {

// What begins a transaction, in one message, all of it the transaction's own: nothing is left on
// the connection, which a pooler may lend to others.
std::string BeginText(Access access, absl::Duration statement_timeout);

// Begins one; the database's time.
absl::StatusOr<absl::Time> Begin(Connection& connection, const std::string& begin_text);

// Ends one, without a change; the connection stays of use unless it was lost.
void RollBack(Connection& connection);

enum class CommitOutcome {
  kCommitted,
  kNotWritten,  // the transaction can be tried again
  kOpen,        // nobody can say
};

struct Commit {
  CommitOutcome outcome = CommitOutcome::kNotWritten;
  absl::Status status;  // OK if it is committed
};

Commit CommitTransaction(Connection& connection, const PostgresJobRows& rows);

// Of a commit whose answer was lost: asks the database, for as long as `patience`, what has become
// of the transaction. On a connection of its own: the pool may have lent all to those that ask.
CommitOutcome AskForOutcome(const StoreUrl& url, const std::string& transaction_id,
                            absl::Duration patience);

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_TRANSACTION_H_
