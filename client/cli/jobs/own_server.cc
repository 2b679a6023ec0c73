#include "client/cli/jobs/own_server.h"

#include "absl/strings/str_cat.h"
#include "client/cli/flags/connect.h"
#include "client/cli/jobs/embedded_server.h"
#include "client/cli/jobs/free_room.h"
#include "client/cli/views/format.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {

void AddOwnServerFlags(Command& command, OwnServerFlags& flags, const std::string& budget_help) {
  command.Add("--data-dir", flags.data_dir,
              "Keep the server's folder here. Interrupted, the same command goes on with its work",
              {.type = "DIR"});
  command.Add("--threads", flags.threads, "That solve; 0: one a core",
              {.show_default = true, .between = {{0, 1024}}});
  command.Add(
      "--memory-budget", flags.memory_budget,
      absl::StrCat("Memory to take, such as 2GiB: ", budget_help, "; 0: the machine's memory"),
      {.type = "BYTES", .default_text = "0", .bytes = true, .at_least = 0});
}

int OnServerOfItsOwn(const Shell& shell, const OwnServerFlags& flags,
                     const std::function<Worked(const OwnServer& server)>& work) {
  ATTNPRUNE_ASSIGN_OR_EXIT(
      LocalError, const auto server,
      EmbeddedServer::Start(flags.data_dir, flags.threads, flags.memory_budget));
  ATTNPRUNE_ASSIGN_OR_EXIT(ServerError, const auto client,
                           Connect(shell, {.server = server->address(), .in_process = true}));
  Shell uninterrupted = shell;
  uninterrupted.interrupt = {};
  ATTNPRUNE_ASSIGN_OR_EXIT(
      ServerError, const auto after,
      Connect(uninterrupted, {.server = server->address(), .in_process = true}));
  const Worked worked = work({*client, *after, server->folder()});
  if (!worked.unsaved) return worked.exit_code;
  Note(shell, absl::StrCat("note: the results are kept; start\n  attnprune-server --data-dir ",
                           ShellWord(server->KeepFolder()),
                           "\nand write them elsewhere with attnprune fetch; a run "
                           "that failed goes on with attnprune resume"));
  return worked.exit_code;
}

absl::Status CheckRoom(const OwnServer& server, const OwnServerFlags& flags, int64_t memory_bytes,
                       int64_t disk_bytes) {
  if (flags.memory_budget == 0) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckMemoryRoom(memory_bytes, FreeMemory()));
  }
  return CheckRoomAt(server.folder, disk_bytes);
}

int SayInterrupted(const Shell& shell, const OwnServerFlags& flags, const std::string& what) {
  Note(shell, flags.data_dir.empty()
                  ? "\ninterrupted; nothing is kept"
                  : absl::StrCat("\ninterrupted; ", what, " goes on with\n",
                                 "  attnprune-server --data-dir ", flags.data_dir,
                                 "\nor with the same command again"));
  return kInterrupted;
}

void NoteGoesOn(const Shell& shell, const std::string& what) {
  Note(shell, absl::StrCat("note: goes on with ", what, ", which the same command has left here"));
}

}  // namespace attnprune::cli
