// One connection to PostgreSQL through libpq, in terms of Status and values that own their memory.
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_CONNECTION_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/queue/postgres/store_url.h"
#include "server/queue/row_value.h"

struct pg_conn;
struct pg_result;

namespace attnprune::postgres {

using db::Bytes;
using db::Null;
using db::Row;
using db::Value;

// What a statement has returned, all of it.
class Result {
 public:
  explicit Result(pg_result* result) : result_(result) {}

  int rows() const;
  // bigint, int and boolean as int64_t, bytea as Bytes, anything else as text.
  Row ReadRow(int row) const;
  int64_t Integer(int row, int column) const;
  std::string Text(int row, int column) const;
  // "UPDATE 1": what the statement has done.
  absl::string_view tag() const;

 private:
  struct Closer {
    void operator()(pg_result* result) const;
  };
  Value ReadValue(int row, int column) const;

  std::unique_ptr<pg_result, Closer> result_;
};

// Why a statement has failed, as far as another try goes.
enum class Trouble {
  kNone,
  kConflict,  // another transaction was in the way; a new one may find it gone
  kLost,      // the connection is of no use any more
};

// Not thread-safe.
//
// Errors, with PostgreSQL's own words: UNAVAILABLE it cannot be reached, is stopping, has no
// connection left, or a statement has timed out; RESOURCE_EXHAUSTED its disk is full; DATA_LOSS
// it found its files damaged; PERMISSION_DENIED; ABORTED another transaction was in the way;
// INTERNAL else.
class Connection {
 public:
  // Waits for as long as the URL's connect_timeout says. UNAUTHENTICATED: the password or the user
  // is refused. FAILED_PRECONDITION: a database that cannot hold the store.
  static absl::StatusOr<Connection> Open(const StoreUrl& url);

  // One statement; values as $1, $2.
  absl::StatusOr<Result> Query(const std::string& sql, absl::Span<const Value> values = {});
  // Several statements without values; the last one's result, all of it text.
  absl::StatusOr<Result> Script(const std::string& sql);

  // The gravest since it was last asked for.
  Trouble trouble() const { return trouble_; }
  void ClearTrouble() { trouble_ = Trouble::kNone; }

  // Whether a pooler such as pgbouncer stands between: then nothing that outlives a transaction,
  // such as LISTEN, works. Asks the server.
  absl::StatusOr<bool> IsPooled();

  // For LISTEN: the socket to wait on; takes what has come in and says whether another session than
  // this one has notified.
  int socket() const;
  absl::StatusOr<bool> TakeNotifications();

 private:
  struct Closer {
    void operator()(pg_conn* connection) const;
  };
  explicit Connection(pg_conn* connection) : connection_(connection) {}
  absl::StatusOr<Result> Check(Result result, const pg_result* raw);
  absl::Status CheckServer() const;

  std::unique_ptr<pg_conn, Closer> connection_;
  Trouble trouble_ = Trouble::kNone;
};

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_CONNECTION_H_
