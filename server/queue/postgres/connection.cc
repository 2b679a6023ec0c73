#include "server/queue/postgres/connection.h"

#include <endian.h>
#include <libpq-fe.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"

namespace attnprune::postgres {
namespace {

// Of pg_type, which never change.
constexpr Oid kBool = 16, kBytea = 17, kInt8 = 20, kInt4 = 23, kText = 25;
constexpr int kBinary = 1;

constexpr int kOldestServer = 130000;  // xid8 and pg_current_xact_id

template <typename Integer>
Integer Load(const char* bytes) {
  Integer value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// On one line.
std::string Words(const char* text) {
  std::vector<absl::string_view> lines;
  for (const absl::string_view line : absl::StrSplit(text == nullptr ? "" : text, '\n')) {
    if (const auto words = absl::StripAsciiWhitespace(line); !words.empty()) lines.push_back(words);
  }
  return absl::StrJoin(lines, "; ");
}

// Values in the binary form, which libpq wants as arrays.
class Parameters {
 public:
  explicit Parameters(absl::Span<const Value> values) : integers_(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) {
      std::visit([&](const auto& value) { Add(i, value); }, values[i]);
    }
    formats_.assign(values.size(), kBinary);
  }
  int count() const { return static_cast<int>(types_.size()); }
  const Oid* types() const { return types_.data(); }
  const char* const* values() const { return values_.data(); }
  const int* lengths() const { return lengths_.data(); }
  const int* formats() const { return formats_.data(); }

 private:
  void Add(size_t, const Null&) { Add(0, nullptr, 0); }  // of the type that its place asks for
  void Add(size_t i, int64_t value) {
    integers_[i] = htobe64(static_cast<uint64_t>(value));
    Add(kInt8, reinterpret_cast<const char*>(&integers_[i]), sizeof(value));
  }
  void Add(size_t, const std::string& text) { Add(kText, text.data(), text.size()); }
  void Add(size_t, const Bytes& value) { Add(kBytea, value.bytes.data(), value.bytes.size()); }
  void Add(Oid type, const char* bytes, size_t size) {
    types_.push_back(type);
    values_.push_back(bytes);
    lengths_.push_back(static_cast<int>(size));
  }

  std::vector<uint64_t> integers_;  // big-endian
  std::vector<Oid> types_;
  std::vector<const char*> values_;
  std::vector<int> lengths_, formats_;
};

struct Cause {
  absl::string_view state;  // an SQLSTATE, or its first two characters
  absl::StatusCode code;
  Trouble trouble;
};

constexpr Cause kCauses[] = {
    {"40001", absl::StatusCode::kAborted, Trouble::kConflict},      // serialization failure
    {"40P01", absl::StatusCode::kAborted, Trouble::kConflict},      // deadlock
    {"23505", absl::StatusCode::kAborted, Trouble::kConflict},      // two with one unique value
    {"55P03", absl::StatusCode::kUnavailable, Trouble::kConflict},  // lock timeout
    {"57014", absl::StatusCode::kUnavailable, Trouble::kNone},      // statement timeout
    {"57P", absl::StatusCode::kUnavailable, Trouble::kLost},        // stopping, starting, dropped
    {"08", absl::StatusCode::kUnavailable, Trouble::kLost},         // connection
    {"25P03", absl::StatusCode::kUnavailable, Trouble::kLost},      // idle in transaction too long
    {"25006", absl::StatusCode::kUnavailable, Trouble::kLost},  // a standby: writes go elsewhere
    {"53100", absl::StatusCode::kResourceExhausted, Trouble::kNone},  // disk full
    {"53", absl::StatusCode::kUnavailable, Trouble::kNone},           // connections, memory
    {"58030", absl::StatusCode::kInternal, Trouble::kNone},           // I/O error
    {"XX001", absl::StatusCode::kDataLoss, Trouble::kNone},           // data corrupted
    {"XX002", absl::StatusCode::kDataLoss, Trouble::kNone},           // index corrupted
    {"42501", absl::StatusCode::kPermissionDenied, Trouble::kNone},
    {"28", absl::StatusCode::kUnauthenticated, Trouble::kNone},
};

Cause CauseOf(absl::string_view state) {
  for (const Cause& cause : kCauses) {
    if (absl::StartsWith(state, cause.state)) return cause;
  }
  return {"", absl::StatusCode::kInternal, Trouble::kNone};
}

// libpq has no code for why it could not connect, only the server's words.
absl::StatusCode CodeOfRefusal(const PGconn* connection, absl::string_view words) {
  const bool password = PQconnectionNeedsPassword(connection) != 0 ||
                        absl::StrContains(words, "password authentication failed");
  if (password || absl::StrContains(words, "authentication failed")) {
    return absl::StatusCode::kUnauthenticated;
  }
  const bool named =
      absl::StrContains(words, "does not exist") &&
      (absl::StrContains(words, "database \"") || absl::StrContains(words, "role \""));
  return named ? absl::StatusCode::kFailedPrecondition : absl::StatusCode::kUnavailable;
}

}  // namespace

// --- Result ---

void Result::Closer::operator()(pg_result* result) const { PQclear(result); }

int Result::rows() const { return PQntuples(result_.get()); }

absl::string_view Result::tag() const { return PQcmdStatus(result_.get()); }

Value Result::ReadValue(int row, int column) const {
  if (PQgetisnull(result_.get(), row, column) != 0) return Null{};
  const char* const bytes = PQgetvalue(result_.get(), row, column);
  std::string copy(bytes, static_cast<size_t>(PQgetlength(result_.get(), row, column)));
  if (PQfformat(result_.get(), column) != kBinary) return copy;
  switch (PQftype(result_.get(), column)) {
    case kInt8:
      return static_cast<int64_t>(be64toh(Load<uint64_t>(bytes)));
    case kInt4:
      return int64_t{static_cast<int32_t>(be32toh(Load<uint32_t>(bytes)))};
    case kBool:
      return int64_t{bytes[0] != 0};
    case kBytea:
      return Bytes{std::move(copy)};
    default:
      return copy;
  }
}

Row Result::ReadRow(int row) const {
  Row values;
  const int columns = PQnfields(result_.get());
  values.reserve(static_cast<size_t>(columns));
  for (int column = 0; column < columns; ++column) values.push_back(ReadValue(row, column));
  return values;
}

int64_t Result::Integer(int row, int column) const {
  const Value value = ReadValue(row, column);
  if (const int64_t* const integer = std::get_if<int64_t>(&value)) return *integer;
  int64_t parsed = 0;
  if (!absl::SimpleAtoi(Text(row, column), &parsed)) parsed = 0;
  return parsed;
}

std::string Result::Text(int row, int column) const {
  return std::string(PQgetvalue(result_.get(), row, column),
                     static_cast<size_t>(PQgetlength(result_.get(), row, column)));
}

// --- Connection ---

void Connection::Closer::operator()(pg_conn* connection) const { PQfinish(connection); }

absl::StatusOr<Connection> Connection::Open(const StoreUrl& url) {
  std::vector<const char*> keys, values;
  for (const auto& [key, value] : url.parameters) {
    keys.push_back(key.c_str());
    values.push_back(value.c_str());
  }
  keys.push_back(nullptr);
  values.push_back(nullptr);
  Connection connection(PQconnectdbParams(keys.data(), values.data(), /*expand_dbname=*/0));
  PGconn* const raw = connection.connection_.get();
  if (PQstatus(raw) != CONNECTION_OK) {
    const std::string words = Words(PQerrorMessage(raw));
    return absl::Status(CodeOfRefusal(raw, words), absl::StrCat(url.display, ": ", words));
  }
  PQsetNoticeProcessor(
      raw, [](void*, const char*) {}, nullptr);
  const absl::Status status = connection.CheckServer();
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(url.display, ": ", status.message()));
  }
  return connection;
}

absl::Status Connection::CheckServer() const {
  PGconn* const raw = connection_.get();
  if (PQserverVersion(raw) < kOldestServer) {
    return absl::FailedPreconditionError(
        absl::StrCat("must be PostgreSQL 13 or newer, got ", PQserverVersion(raw) / 10000));
  }
  const char* const encoding = PQparameterStatus(raw, "server_encoding");
  if (encoding != nullptr && absl::string_view(encoding) != "UTF8") {
    return absl::FailedPreconditionError(
        absl::StrCat("the database's encoding must be UTF8, got ", encoding));
  }
  return absl::OkStatus();
}

absl::StatusOr<Result> Connection::Check(Result result, const pg_result* raw) {
  const ExecStatusType status = PQresultStatus(raw);
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) return result;
  const char* const state = PQresultErrorField(raw, PG_DIAG_SQLSTATE);
  Cause cause = CauseOf(state == nullptr ? "" : state);
  std::string words = Words(raw != nullptr ? PQresultErrorField(raw, PG_DIAG_MESSAGE_PRIMARY) : "");
  if (words.empty()) words = Words(PQerrorMessage(connection_.get()));
  // An error without a code is not the server's but libpq's: it cannot be heard.
  if (state == nullptr || PQstatus(connection_.get()) != CONNECTION_OK) {
    cause.code = absl::StatusCode::kUnavailable;
    cause.trouble = Trouble::kLost;
  }
  trouble_ = std::max(trouble_, cause.trouble);
  return absl::Status(cause.code, absl::StrCat("database: ", words));
}

absl::StatusOr<Result> Connection::Query(const std::string& sql, absl::Span<const Value> values) {
  const Parameters parameters(values);
  pg_result* const raw =
      PQexecParams(connection_.get(), sql.c_str(), parameters.count(), parameters.types(),
                   parameters.values(), parameters.lengths(), parameters.formats(), kBinary);
  return Check(Result(raw), raw);
}

absl::StatusOr<Result> Connection::Script(const std::string& sql) {
  pg_result* const raw = PQexec(connection_.get(), sql.c_str());
  return Check(Result(raw), raw);
}

absl::StatusOr<bool> Connection::IsPooled() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result result, Query("SELECT pg_backend_pid()"));
  return result.Integer(0, 0) != PQbackendPID(connection_.get());
}

int Connection::socket() const { return PQsocket(connection_.get()); }

absl::StatusOr<bool> Connection::TakeNotifications() {
  if (PQconsumeInput(connection_.get()) == 0) {
    trouble_ = Trouble::kLost;
    return absl::UnavailableError(
        absl::StrCat("database: ", Words(PQerrorMessage(connection_.get()))));
  }
  bool notified = false;
  while (PGnotify* const notification = PQnotifies(connection_.get())) {
    notified |= notification->be_pid != PQbackendPID(connection_.get());
    PQfreemem(notification);
  }
  return notified;
}

}  // namespace attnprune::postgres
