// A PostgreSQL server of the test's own, in a temporary folder, on a unix socket alone.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_SERVER_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_SERVER_H_

#include <sys/types.h>

#include <string>
#include <thread>

#include "server/queue/postgres/connection.h"

namespace attnprune::testing {

// Debian's PostgreSQL 15. It refuses to run as root, so that then it runs as `postgres` or
// `nobody`. It ends with this process, however that ends, and its folder with this object.
class PostgresServer {
 public:
  PostgresServer();
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;
  PostgresServer& operator=(const PostgresServer&) = delete;

  // One of the whole test program's, started when it is first asked for.
  static PostgresServer& Shared();

  // Of a new, empty database.
  std::string NewDatabase();
  std::string UrlOf(const std::string& database) const;
  // A session of the test's own.
  postgres::Connection Connect(const std::string& url) const;

  // As when its machine fails: sessions are cut off, and what was not committed is gone.
  void Crash();
  void Start();  // again

 private:
  void WaitUntilReady(int log);

  std::string folder_ = "/tmp/attnprune-pg-XXXXXX";
  pid_t process_ = -1;
  std::thread log_reader_;
  int databases_ = 0;
};

// Ends a session as the server's administrator can: its connection is lost.
void EndOtherSessions(postgres::Connection& connection);

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_SERVER_H_
