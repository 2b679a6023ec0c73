#include "tests/server/queue/postgres/test_program.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace attnprune::testing {
namespace {

// nullptr: this process's own.
const passwd* OtherUser() {
  if (geteuid() != 0) return nullptr;
  const passwd* user = getpwnam("postgres");
  if (user == nullptr) user = getpwnam("nobody");
  if (user == nullptr) GiveUp("there is no user to run PostgreSQL as");
  return user;
}

void Become(const passwd* user) {
  if (user == nullptr) return;
  const bool changed =
      setgroups(0, nullptr) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0;
  if (!changed) _exit(127);
}

// Whether others than root get into the root folder; not in some chroots.
bool RootFolderIsOpen() {
  struct stat root = {};
  return stat("/", &root) == 0 && (root.st_mode & S_IXOTH) != 0;
}

// What becomes the user by itself, and keeps root's right to enter any folder.
std::vector<std::string> CommandAs(const passwd* user) {
  return {"/usr/bin/setpriv",
          absl::StrCat("--reuid=", user->pw_uid),
          absl::StrCat("--regid=", user->pw_gid),
          "--clear-groups",
          "--securebits=+no_setuid_fixup",  // access(2) counts that right too
          "--inh-caps=+dac_override",
          "--ambient-caps=+dac_override",
          "--pdeathsig=QUIT"};
}

// The process, which writes to `output`.
pid_t Run(const std::string& path, const std::vector<std::string>& arguments, int output) {
  const passwd* user = OtherUser();
  std::vector<std::string> command;
  if (user != nullptr && !RootFolderIsOpen()) {
    command = CommandAs(user);
    user = nullptr;
  }
  command.push_back(path);
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t process = fork();
  if (process != 0) return process;
  Become(user);
  prctl(PR_SET_PDEATHSIG, SIGQUIT);  // after the change of user, which clears it
  if (getppid() != parent || chdir("/") != 0) _exit(127);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execv(argv[0], argv.data());
  _exit(127);
}

// What `log` says until `ready` comes or it ends.
std::string ReadUntil(int log, const std::string& ready) {
  std::string text;
  char bytes[4096];
  while (ready.empty() || !absl::StrContains(text, ready)) {
    const ssize_t size = read(log, bytes, sizeof bytes);
    if (size <= 0) break;
    text.append(bytes, static_cast<size_t>(size));
  }
  return text;
}

}  // namespace

void GiveUp(const std::string& why) {
  std::cerr << why << "\nThe packages of ./dev.sh test must be installed.\n";
  std::abort();
}

std::string TestProgram::MakeFolder() {
  std::string folder = "/tmp/attnprune-pg-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) GiveUp("cannot make " + folder);
  const passwd* const user = OtherUser();
  if (user != nullptr && chown(folder.c_str(), user->pw_uid, user->pw_gid) != 0) {
    GiveUp("cannot give away " + folder);
  }
  return folder;
}

TestProgram::TestProgram(const std::string& path, const std::vector<std::string>& arguments,
                         const std::string& ready) {
  int log[2];
  if (pipe2(log, O_CLOEXEC) != 0) GiveUp("no pipe");
  process_ = Run(path, arguments, log[1]);
  close(log[1]);
  const std::string text = ReadUntil(log[0], ready);
  int status = 0;
  if (ready.empty()) {
    if (waitpid(process_, &status, 0) != process_ || status != 0) GiveUp(path + ": " + text);
    process_ = -1;
  } else if (!absl::StrContains(text, ready)) {
    GiveUp(absl::StrCat(path, " does not start: ", text));
  }
  reader_ = std::thread([log = log[0]] {
    ReadUntil(log, "");
    close(log);
  });
}

TestProgram::~TestProgram() {
  if (process_ > 0) {
    kill(process_, SIGQUIT);
    waitpid(process_, nullptr, 0);
  }
  reader_.join();
}

}  // namespace attnprune::testing
