// How much SQLite does: operations counted, not time, so that a busy machine changes nothing.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SQLITE_WORK_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SQLITE_WORK_H_

#include <cstdint>

namespace attnprune::testing {

struct SqliteWork {
  int64_t commits = 0;     // each an fsync
  int64_t statements = 0;  // that ran to their end
  int64_t operations = 0;  // of SQLite's virtual machine: some per row that is looked at
  int64_t scanned = 0;     // rows passed in a table without an index to lead to them

  SqliteWork operator-(const SqliteWork& before) const {
    return {commits - before.commits, statements - before.statements,
            operations - before.operations, scanned - before.scanned};
  }
};

// From now on the work of connections that are opened is counted. Thread-safe.
void CountSqliteWork();
SqliteWork SqliteWorkSoFar();

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SQLITE_WORK_H_
