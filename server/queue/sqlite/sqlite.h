// SQLite in terms of Status and values that own their memory; rows that carry a checksum.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/queue/row_value.h"

struct sqlite3;
struct sqlite3_stmt;

namespace attnprune::sqlite {

using db::Bytes;  // a BLOB; std::string is TEXT
using db::Null;
using db::Row;
using db::Value;

// A running statement. Its Database must outlive it, and may not start the same SQL meanwhile.
class Query {
 public:
  explicit Query(sqlite3_stmt* statement) : statement_(statement) {}
  Query(Query&& other) noexcept;
  Query& operator=(Query&&) = delete;
  ~Query();  // the statement can be started again

  // Goes to the first or next row; false: there is none.
  absl::StatusOr<bool> Next();
  // Of the current row.
  Row ReadRow() const;
  int64_t Integer(int column) const;
  std::string Text(int column) const;

 private:
  sqlite3_stmt* statement_;
};

// One connection. Not thread-safe: one thread at a time, its Queries included.
//
// Errors: RESOURCE_EXHAUSTED the disk is full; DATA_LOSS the file is damaged or no database;
// PERMISSION_DENIED it cannot be written; UNAVAILABLE another process holds it; UNKNOWN the
// SQL and the database's tables do not go together; INTERNAL else.
class Database {
 public:
  // Never makes a file. path: ":memory:" for one without.
  static absl::StatusOr<Database> Open(const std::string& path);
  // Reads what another process may be writing; leaves the log behind as it is.
  static absl::StatusOr<Database> OpenForReading(const std::string& path);
  Database(Database&&) noexcept = default;
  Database& operator=(Database&&) noexcept = default;
  ~Database() = default;

  // Statements are kept by their SQL, so pass values as `?`, not in the text.
  absl::StatusOr<Query> Start(const std::string& sql, absl::Span<const Value> values = {});
  // Runs one statement to its end and drops its rows.
  absl::Status Execute(const std::string& sql, absl::Span<const Value> values = {});
  // Several statements without values, not kept.
  absl::Status ExecuteScript(const std::string& sql);
  // The first column of the only row.
  absl::StatusOr<int64_t> ReadInteger(const std::string& sql, absl::Span<const Value> values = {});

  // The main database's image, as it would be in a file.
  absl::StatusOr<std::string> Serialize();
  bool IsReadOnly() const;
  // A copy as a file, which must not be there, for its owner alone: the state of the transaction
  // under way, or the newest. OK means that its bytes are on disk. The memory that it takes does
  // not grow with the database.
  absl::Status CopyTo(const std::string& path);
  int64_t RowsChanged() const;  // by this connection, since it was opened
  // Whether the last connection folds the log into the database and removes it when it closes. From
  // the start it does not: a log that is to be looked at stays.
  void SetFoldsLogOnClose(bool folds);

 private:
  struct Closer {
    void operator()(sqlite3* connection) const;
  };
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const;
  };
  explicit Database(sqlite3* connection) : connection_(connection) {}
  static absl::StatusOr<Database> Open(const std::string& path, int flags);

  std::unique_ptr<sqlite3, Closer> connection_;
  std::map<std::string, std::unique_ptr<sqlite3_stmt, Finalizer>> statements_;  // dies first
};

enum class TransactionKind { kRead, kWrite };

// Rolls back unless it was committed.
class Transaction {
 public:
  static absl::StatusOr<Transaction> Begin(Database* database, TransactionKind kind);
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  // OK means that the writes are on disk, in a database that is set so (synchronous=FULL).
  absl::Status Commit();

 private:
  explicit Transaction(Database* database) : database_(database) {}
  Database* database_;  // nullptr: over
};

// Sealed rows carry a checksum in their last column, because SQLite notices damage to its structure
// but not to the values in it.

// The row with the checksum of the table's name and its values behind them.
Row Seal(absl::string_view table, Row row);

// The row without its checksum. DATA_LOSS naming the table if it does not fit.
absl::StatusOr<Row> Unseal(absl::string_view table, Row row);

// The next row of `query`, a SELECT of all of the table's columns, unsealed; nothing at its end.
absl::StatusOr<absl::optional<Row>> NextSealed(absl::string_view table, Query& query);

// Visits every row of such a query.
absl::Status ForEachSealed(Database& database, absl::string_view table, const std::string& sql,
                           absl::Span<const Value> values, absl::FunctionRef<void(Row)> visit);

// "INSERT INTO table VALUES (?, …)" of the sealed row.
absl::Status InsertSealed(Database* database, const std::string& table, Row row);

// Unseals every row.
absl::Status CheckSeals(Database* database, const std::string& table);

}  // namespace attnprune::sqlite

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_H_
