#include "tests/server/queue/sqlite/sqlite_work.h"

#include <sqlite3.h>

#include <atomic>
#include <cstring>

namespace attnprune::testing {
namespace {

// Of all connections: other tests of the process use them from many threads.
std::atomic<int64_t> commits{0}, statements{0}, operations{0}, scanned{0};

int OnStatementEnd(unsigned, void*, void* statement, void*) {
  auto* const ended = static_cast<sqlite3_stmt*>(statement);
  const auto take = [ended](int counter) { return sqlite3_stmt_status(ended, counter, 1); };
  ++statements;
  operations += take(SQLITE_STMTSTATUS_VM_STEP);
  scanned += take(SQLITE_STMTSTATUS_FULLSCAN_STEP);
  if (std::strcmp(sqlite3_sql(ended), "COMMIT") == 0) ++commits;
  return 0;
}

int Attach(sqlite3* connection, const char**, const sqlite3_api_routines*) {
  return sqlite3_trace_v2(connection, SQLITE_TRACE_PROFILE, OnStatementEnd, nullptr);
}

}  // namespace

void CountSqliteWork() {
  sqlite3_auto_extension(reinterpret_cast<void (*)()>(Attach));  // once only, says SQLite
}

SqliteWork SqliteWorkSoFar() {
  return {
      .commits = commits, .statements = statements, .operations = operations, .scanned = scanned};
}

}  // namespace attnprune::testing
