#include "server/queue/sqlite/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "server/queue/checksum.h"

namespace attnprune::sqlite {
namespace {

constexpr int kBusyMilliseconds = 5000;  // that a reader waits for a lock

absl::StatusCode CodeOfSystemError(int error) {
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return absl::StatusCode::kResourceExhausted;
  }
  if (error == EACCES || error == EROFS) return absl::StatusCode::kPermissionDenied;
  return absl::StatusCode::kInternal;
}

absl::StatusCode CodeOf(int result, int system_error) {
  switch (result & 0xff) {  // without the extended part
    case SQLITE_FULL:
    case SQLITE_NOMEM:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
      return absl::StatusCode::kDataLoss;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::StatusCode::kPermissionDenied;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kUnavailable;
    case SQLITE_ERROR:
      return absl::StatusCode::kUnknown;
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
      return CodeOfSystemError(system_error);
    default:
      return absl::StatusCode::kInternal;
  }
}

absl::Status ErrorOf(sqlite3* connection, int result) {
  const int extended = sqlite3_extended_errcode(connection);
  const char* file = sqlite3_db_filename(connection, "main");
  return absl::Status(CodeOf(result, sqlite3_system_errno(connection)),
                      absl::StrCat("database ", file == nullptr ? "" : file, ": ",
                                   sqlite3_errmsg(connection), " (", extended, ")"));
}

int BindText(sqlite3_stmt* statement, int index, const std::string& text) {
  return sqlite3_bind_text64(statement, index, text.data(), text.size(), SQLITE_TRANSIENT,
                             SQLITE_UTF8);
}

int Bind(sqlite3_stmt* statement, int index, const Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    return sqlite3_bind_int64(statement, index, *integer);
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    return BindText(statement, index, *text);
  }
  if (const auto* blob = std::get_if<Bytes>(&value)) {
    return sqlite3_bind_blob64(statement, index, blob->bytes.data(), blob->bytes.size(),
                               SQLITE_TRANSIENT);
  }
  return sqlite3_bind_null(statement, index);
}

std::string BytesOf(sqlite3_stmt* statement, int column) {
  const void* bytes = sqlite3_column_blob(statement, column);  // before asking for the size
  const int size = sqlite3_column_bytes(statement, column);
  if (bytes == nullptr || size <= 0) return "";
  return std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

Value ValueOf(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
      return static_cast<int64_t>(sqlite3_column_int64(statement, column));
    case SQLITE_TEXT:
      return BytesOf(statement, column);
    case SQLITE_BLOB:
      return Bytes{BytesOf(statement, column)};
    default:
      return Null{};
  }
}

struct Adder {
  Checksum& checksum;
  void operator()(const Null&) const { checksum.AddNull(); }
  void operator()(int64_t value) const { checksum.AddInteger(value); }
  void operator()(const std::string& text) const { checksum.AddText(text); }
  void operator()(const Bytes& blob) const { checksum.AddBytes(blob.bytes); }
};

int64_t SealOf(absl::string_view table, const Row& row) {
  Checksum checksum;
  checksum.AddText(table);
  for (const Value& value : row) std::visit(Adder{checksum}, value);
  return checksum.Value();
}

}  // namespace

Query::Query(Query&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)) {}

Query::~Query() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

absl::StatusOr<bool> Query::Next() {
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  return ErrorOf(sqlite3_db_handle(statement_), result);
}

Row Query::ReadRow() const {
  const int columns = sqlite3_column_count(statement_);
  Row row;
  row.reserve(static_cast<size_t>(columns));
  for (int column = 0; column < columns; ++column) row.push_back(ValueOf(statement_, column));
  return row;
}

int64_t Query::Integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string Query::Text(int column) const { return BytesOf(statement_, column); }

void Database::Closer::operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }

void Database::Finalizer::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

absl::StatusOr<Database> Database::Open(const std::string& path) {
  return Open(path, SQLITE_OPEN_READWRITE);
}

absl::StatusOr<Database> Database::OpenForReading(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Database database, Open(path, SQLITE_OPEN_READONLY));
  sqlite3* const connection = database.connection_.get();
  sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_busy_timeout(connection, kBusyMilliseconds);
  return database;
}

absl::StatusOr<Database> Database::Open(const std::string& path, int flags) {
  sqlite3* connection = nullptr;
  const int result =
      sqlite3_open_v2(path.c_str(), &connection, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  Database database(connection);  // there even after an error, unless memory ran out
  if (connection == nullptr) return absl::ResourceExhaustedError("out of memory");
  if (result != SQLITE_OK) return ErrorOf(connection, result);
  sqlite3_extended_result_codes(connection, 1);
  database.SetFoldsLogOnClose(false);
  return database;
}

absl::StatusOr<Query> Database::Start(const std::string& sql, absl::Span<const Value> values) {
  auto& statement = statements_[sql];
  if (statement == nullptr) {
    sqlite3_stmt* prepared = nullptr;
    const int result =
        sqlite3_prepare_v3(connection_.get(), sql.c_str(), static_cast<int>(sql.size()) + 1,
                           SQLITE_PREPARE_PERSISTENT, &prepared, nullptr);
    if (result != SQLITE_OK) return ErrorOf(connection_.get(), result);
    statement.reset(prepared);
  }
  if (sqlite3_stmt_busy(statement.get()) != 0) {
    return absl::InternalError(absl::StrCat("statement is running already: ", sql));
  }
  Query query(statement.get());
  for (size_t i = 0; i < values.size(); ++i) {
    const int result = Bind(statement.get(), static_cast<int>(i) + 1, values[i]);
    if (result != SQLITE_OK) return ErrorOf(connection_.get(), result);
  }
  return query;
}

absl::Status Database::Execute(const std::string& sql, absl::Span<const Value> values) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query, Start(sql, values));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, query.Next());
    if (!more) return absl::OkStatus();
  }
}

absl::Status Database::ExecuteScript(const std::string& sql) {
  const int result = sqlite3_exec(connection_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  return result == SQLITE_OK ? absl::OkStatus() : ErrorOf(connection_.get(), result);
}

absl::StatusOr<int64_t> Database::ReadInteger(const std::string& sql,
                                              absl::Span<const Value> values) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query, Start(sql, values));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool found, query.Next());
  if (!found) return absl::InternalError(absl::StrCat("no row: ", sql));
  return query.Integer(0);
}

absl::StatusOr<std::string> Database::Serialize() {
  sqlite3_int64 size = 0;
  unsigned char* image = sqlite3_serialize(connection_.get(), "main", &size, 0);
  if (image == nullptr) return absl::ResourceExhaustedError("out of memory");
  std::string bytes(reinterpret_cast<const char*>(image), static_cast<size_t>(size));
  sqlite3_free(image);
  return bytes;
}

// SQLite takes a file without bytes for a database without tables.
absl::Status Database::CopyTo(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoError(errno, path, "make");
  close(fd);
  ATTNPRUNE_ASSIGN_OR_RETURN(const Database copy, Open(path));
  sqlite3* const target = copy.connection_.get();
  sqlite3_backup* const backup = sqlite3_backup_init(target, "main", connection_.get(), "main");
  if (backup == nullptr) return ErrorOf(target, sqlite3_errcode(target));
  const int copied = sqlite3_backup_step(backup, /*pages: all*/ -1);
  const int finished = sqlite3_backup_finish(backup);
  if (finished != SQLITE_OK) return ErrorOf(target, finished);
  if (copied == SQLITE_DONE) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("database ", path, ": could not be copied: ", sqlite3_errstr(copied)));
}

bool Database::IsReadOnly() const { return sqlite3_db_readonly(connection_.get(), "main") != 0; }

int64_t Database::RowsChanged() const { return sqlite3_total_changes(connection_.get()); }

void Database::SetFoldsLogOnClose(bool folds) {
  sqlite3_db_config(connection_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, folds ? 0 : 1, nullptr);
}

absl::StatusOr<Transaction> Transaction::Begin(Database* database, TransactionKind kind) {
  ATTNPRUNE_RETURN_IF_ERROR(
      database->Execute(kind == TransactionKind::kWrite ? "BEGIN IMMEDIATE" : "BEGIN"));
  return Transaction(database);
}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

Transaction::~Transaction() {
  // Some errors have rolled back already; then this one fails and that is as well.
  if (database_ != nullptr) database_->Execute("ROLLBACK").IgnoreError();
}

absl::Status Transaction::Commit() {
  ATTNPRUNE_RETURN_IF_ERROR(database_->Execute("COMMIT"));
  database_ = nullptr;
  return absl::OkStatus();
}

Row Seal(absl::string_view table, Row row) {
  const int64_t seal = SealOf(table, row);
  row.emplace_back(std::in_place_type<int64_t>, seal);
  return row;
}

absl::StatusOr<Row> Unseal(absl::string_view table, Row row) {
  if (!row.empty()) {
    const int64_t* const stored = std::get_if<int64_t>(&row.back());
    const absl::optional<int64_t> seal =
        stored != nullptr ? absl::make_optional(*stored) : absl::nullopt;
    row.pop_back();
    if (seal == SealOf(table, row)) return row;
  }
  return absl::DataLossError(absl::StrCat("database: a row of table ", table, " is damaged"));
}

absl::StatusOr<absl::optional<Row>> NextSealed(absl::string_view table, Query& query) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool found, query.Next());
  if (!found) return absl::optional<Row>();
  ATTNPRUNE_ASSIGN_OR_RETURN(Row row, Unseal(table, query.ReadRow()));
  return absl::optional<Row>(std::move(row));
}

absl::Status ForEachSealed(Database& database, absl::string_view table, const std::string& sql,
                           absl::Span<const Value> values, absl::FunctionRef<void(Row)> visit) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query query, database.Start(sql, values));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<Row> row, NextSealed(table, query));
    if (!row.has_value()) return absl::OkStatus();
    visit(*std::move(row));
  }
}

absl::Status InsertSealed(Database* database, const std::string& table, Row row) {
  const Row sealed = Seal(table, std::move(row));
  const std::vector<std::string> places(sealed.size(), "?");
  return database->Execute(
      absl::StrCat("INSERT INTO ", table, " VALUES (", absl::StrJoin(places, ", "), ")"), sealed);
}

absl::Status CheckSeals(Database* database, const std::string& table) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Query rows, database->Start(absl::StrCat("SELECT * FROM ", table)));
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return absl::OkStatus();
    ATTNPRUNE_RETURN_IF_ERROR(Unseal(table, rows.ReadRow()).status());
  }
}

}  // namespace attnprune::sqlite
