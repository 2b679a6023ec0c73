#include "tests/server/queue/postgres/postgres_server.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace attnprune::testing {
namespace {

constexpr char kPrograms[] = "/usr/lib/postgresql/15/bin/";
constexpr char kUser[] = "attnprune";

[[noreturn]] void Die(const std::string& what) {
  std::cerr << "PostgreSQL for tests: " << what << "\n";
  std::abort();  // no test can go on
}

// nullptr: this process's own.
const passwd* OtherUser() {
  if (geteuid() != 0) return nullptr;
  const passwd* user = getpwnam("postgres");
  if (user == nullptr) user = getpwnam("nobody");
  if (user == nullptr) Die("runs as another user than root, and there is none");
  return user;
}

void BecomeOtherUser() {
  const passwd* const user = OtherUser();
  if (user == nullptr) return;
  const bool changed =
      setgroups(0, nullptr) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0;
  if (!changed) _exit(127);
}

// The process; its standard output and error are `output`.
pid_t Run(const std::string& program, const std::vector<std::string>& arguments, int output) {
  const std::string path = kPrograms + program;
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t process = fork();
  if (process != 0) return process;
  BecomeOtherUser();
  prctl(PR_SET_PDEATHSIG, SIGQUIT);  // at once, and its sessions with it
  if (getppid() != parent || chdir("/") != 0) _exit(127);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execv(argv[0], argv.data());
  _exit(127);
}

}  // namespace

PostgresServer::PostgresServer() {
  if (mkdtemp(folder_.data()) == nullptr) Die("cannot make " + folder_);
  if (const passwd* const user = OtherUser(); user != nullptr) {
    if (chown(folder_.c_str(), user->pw_uid, user->pw_gid) != 0) Die("cannot give away its folder");
  }
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  const pid_t init = Run("initdb",
                         {"-D", folder_ + "/data", "-U", kUser, "-A", "trust", "-E", "UTF8",
                          "--locale=C", "--no-sync"},
                         nowhere);
  int status = 0;
  if (waitpid(init, &status, 0) != init || status != 0) {
    Die(absl::StrCat("initdb failed; are the packages of ./dev.sh test installed? (", kPrograms,
                     ")"));
  }
  close(nowhere);
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

// Without fsync: what is committed survives a crash of the processes all the same.
void PostgresServer::Start() {
  int log[2];
  if (pipe2(log, O_CLOEXEC) != 0) Die("no pipe");
  process_ = Run(
      "postgres",
      {"-D", folder_ + "/data", "-k", folder_, "-c", "listen_addresses=", "-c", "fsync=off", "-c",
       "max_connections=60", "-c", "log_min_messages=warning", "-c", "log_checkpoints=off"},
      log[1]);
  close(log[1]);
  WaitUntilReady(log[0]);
}

void PostgresServer::WaitUntilReady(int log) {
  std::string text;
  char bytes[4096];
  while (!absl::StrContains(text, "ready to accept connections")) {
    const ssize_t size = read(log, bytes, sizeof bytes);
    if (size <= 0) Die("does not start: " + text);
    text.append(bytes, static_cast<size_t>(size));
  }
  log_reader_ = std::thread([log] {
    char more[4096];
    while (read(log, more, sizeof more) > 0) {
    }
    close(log);
  });
}

void PostgresServer::Crash() {
  if (process_ < 0) return;
  kill(process_, SIGQUIT);
  waitpid(process_, nullptr, 0);
  process_ = -1;
  log_reader_.join();
}

std::string PostgresServer::UrlOf(const std::string& database) const {
  return absl::StrCat("postgresql:///", database, "?host=", folder_, "&user=", kUser);
}

postgres::Connection PostgresServer::Connect(const std::string& url) const {
  absl::StatusOr<postgres::Connection> connection =
      postgres::Connection::Open(*postgres::ParseStoreUrl(url, ""));
  if (!connection.ok()) Die(connection.status().ToString());
  return *std::move(connection);
}

std::string PostgresServer::NewDatabase() {
  const std::string name = absl::StrCat("test", ++databases_);
  postgres::Connection connection = Connect(UrlOf("postgres"));
  const absl::Status status = connection.Script("CREATE DATABASE " + name).status();
  if (!status.ok()) Die(status.ToString());
  return UrlOf(name);
}

void EndOtherSessions(postgres::Connection& connection) {
  const auto ended = connection.Script(
      "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
      " WHERE datname = current_database() AND pid <> pg_backend_pid()");
  if (!ended.ok()) Die(ended.status().ToString());
}

}  // namespace attnprune::testing
