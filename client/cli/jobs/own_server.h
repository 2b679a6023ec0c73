// Work on a server of the command's own.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_OWN_SERVER_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_OWN_SERVER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "client/cli/flags/command_line.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

struct OwnServerFlags {
  std::string data_dir;  // empty: a temporary folder
  int threads = 0;
  int64_t memory_budget = 0;  // bytes; 0: the machine's memory
};

// --data-dir, --threads, --memory-budget. budget_help: what becomes of data that does not fit.
void AddOwnServerFlags(Command& command, OwnServerFlags& flags, const std::string& budget_help);

struct Worked {
  int exit_code = 0;
  bool unsaved = false;  // results are there that could not be written, or of a run that failed
};

struct OwnServer {
  client::Client& client;
  client::Client& after;  // which an interrupt does not end
  std::string folder;     // its data folder
};

// Does the work on a server that ends with it. Returns its exit code; says where results are that
// are unsaved.
int OnServerOfItsOwn(const Shell& shell, const OwnServerFlags& flags,
                     const std::function<Worked(const OwnServer& server)>& work);

// RESOURCE_EXHAUSTED where the machine has not so much memory free, unless --memory-budget is
// given, or the disk of the server's folder.
absl::Status CheckRoom(const OwnServer& server, const OwnServerFlags& flags, int64_t memory_bytes,
                       int64_t disk_bytes);

// Returns kInterrupted. what: the job, jobs or run that may go on.
int SayInterrupted(const Shell& shell, const OwnServerFlags& flags, const std::string& what);
void NoteGoesOn(const Shell& shell, const std::string& what);  // with what an earlier command left

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_OWN_SERVER_H_
