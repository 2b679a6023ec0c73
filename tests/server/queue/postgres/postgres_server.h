// A PostgreSQL server, and a pooler before it, of the test's own: in temporary folders, on unix
// sockets alone.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_SERVER_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_SERVER_H_

#include <memory>
#include <string>

#include "server/queue/postgres/connection.h"
#include "tests/server/queue/postgres/test_program.h"

namespace attnprune::testing {

// Debian's PostgreSQL 15. Users are let in as whom they say, but for `guarded`, who needs the
// password that the test gives it.
class PostgresServer {
 public:
  PostgresServer();
  ~PostgresServer();

  // One of the whole test program's, started when it is first asked for.
  static PostgresServer& Shared();

  // The URL of a new, empty database.
  std::string NewDatabase();
  std::string UrlOf(const std::string& database) const;
  // A session of the test's own.
  static postgres::Connection Connect(const std::string& url);

  // As when its processes are killed: what was not committed is gone.
  void Crash() { program_.reset(); }
  void Start();  // again

  const std::string& folder() const { return folder_; }  // of its socket

 private:
  const std::string folder_ = TestProgram::MakeFolder();
  std::unique_ptr<TestProgram> program_;
  int databases_ = 0;
};

// pgbouncer, which lends a connection for one transaction.
class Pooler {
 public:
  explicit Pooler(const PostgresServer& server);
  ~Pooler();
  Pooler(const Pooler&) = delete;
  Pooler& operator=(const Pooler&) = delete;

  // Of the server's URL.
  std::string UrlOf(const std::string& url) const;

 private:
  const std::string folder_ = TestProgram::MakeFolder();
  std::unique_ptr<TestProgram> program_;
};

// All of this database but this one are cut off, as an administrator can do.
void EndOtherSessions(postgres::Connection& connection);

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_SERVER_H_
