#include "tests/server/queue/postgres/postgres_server.h"

#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"

namespace attnprune::testing {
namespace {

constexpr char kPrograms[] = "/usr/lib/postgresql/15/bin/";
constexpr char kUser[] = "attnprune";

}  // namespace

PostgresServer::PostgresServer() {
  const TestProgram init(absl::StrCat(kPrograms, "initdb"),
                         {"-D", folder_ + "/data", "-U", kUser, "-A", "trust", "-E", "UTF8",
                          "--locale=C", "--no-sync"},
                         "");
  std::ofstream(folder_ + "/data/pg_hba.conf", std::ios::trunc)
      << "local all guarded scram-sha-256\nlocal all all trust\n";
  Start();
}

PostgresServer::~PostgresServer() {
  Crash();
  std::filesystem::remove_all(folder_);
}

PostgresServer& PostgresServer::Shared() {
  static PostgresServer server;
  return server;
}

// Without fsync: what is committed survives the end of the processes all the same.
void PostgresServer::Start() {
  program_ = std::make_unique<TestProgram>(
      absl::StrCat(kPrograms, "postgres"),
      std::vector<std::string>{"-D", folder_ + "/data", "-k", folder_, "-c",
                               "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60",
                               "-c", "shared_buffers=32MB"},
      "ready to accept connections");
}

std::string PostgresServer::UrlOf(const std::string& database) const {
  return absl::StrCat("postgresql:///", database, "?user=", kUser, "&host=", folder_);
}

postgres::Connection PostgresServer::Connect(const std::string& url) {
  absl::StatusOr<postgres::Connection> connection =
      postgres::Connection::Open(*postgres::ParseStoreUrl(url, ""));
  if (!connection.ok()) GiveUp(connection.status().ToString());
  return *std::move(connection);
}

std::string PostgresServer::NewDatabase() {
  const std::string name = absl::StrCat("test", ++databases_);
  postgres::Connection connection = Connect(UrlOf("postgres"));
  const absl::Status status =
      connection.Script(absl::StrCat("CREATE DATABASE ", name, " STRATEGY FILE_COPY")).status();
  if (!status.ok()) GiveUp(status.ToString());
  return UrlOf(name);
}

Pooler::Pooler(const PostgresServer& server) {
  const std::string settings = folder_ + "/pgbouncer.ini";
  std::ofstream(settings) << "[databases]\n* = host=" << server.folder() << " user=" << kUser
                          << "\n[pgbouncer]\npool_mode = transaction\nauth_type = any\n"
                          << "listen_addr =\nunix_socket_dir = " << folder_
                          << "\nlisten_port = 5432\ndefault_pool_size = 3\n";
  program_ =
      std::make_unique<TestProgram>("/usr/sbin/pgbouncer", std::vector{settings}, "process up");
}

Pooler::~Pooler() {
  program_.reset();
  std::filesystem::remove_all(folder_);
}

std::string Pooler::UrlOf(const std::string& url) const {
  return absl::StrCat(url, "&host=", folder_);
}

void EndOtherSessions(postgres::Connection& connection) {
  const auto ended = connection.Script(
      "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
      " WHERE datname = current_database() AND pid <> pg_backend_pid()");
  if (!ended.ok()) GiveUp(ended.status().ToString());
}

}  // namespace attnprune::testing
