// Rows that carry a checksum in their last column, because SQLite notices damage to its structure
// but not to the values in it.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_SEALED_ROWS_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_SEALED_ROWS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/queue/sqlite/sqlite.h"

namespace attnprune::sqlite {

// The row with the checksum of the table's name and its values behind them.
Row Seal(absl::string_view table, Row row);

// The row without its checksum. DATA_LOSS naming the table if it does not fit.
absl::StatusOr<Row> Unseal(absl::string_view table, Row row);

// "INSERT INTO table VALUES (?, …)" of the sealed row.
absl::Status InsertSealed(Database* database, const std::string& table, Row row);

// Unseals every row.
absl::Status CheckSeals(Database* database, const std::string& table);

}  // namespace attnprune::sqlite

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_SEALED_ROWS_H_
