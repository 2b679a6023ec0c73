// attnprune run: a server of its own for one job. No set-up, nothing left but the files asked for.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/connect.h"
#include "client/cli/embedded_server.h"
#include "client/cli/job_flags.h"
#include "client/cli/submission.h"

namespace attnprune::cli {
namespace {

struct RunFlags {
  JobFlags job;
  std::string data_dir;  // empty: a temporary folder
  int threads = 0;
  bool json = false;
};

int RunOn(const Shell& shell, const EmbeddedServer& server, const RunFlags& flags,
          const v1::Job& job, const JobTensors& tensors) {
  ConnectFlags connect;
  connect.server = server.address();
  const auto client = Connect(shell, connect);
  if (!client.ok()) return ServerError(shell, client.status());
  const auto created = Submit(shell, **client, job, tensors, SubmitMode::kCreate);
  if (!created.ok()) return ServerError(shell, created.status());
  const FollowResult result = Follow(shell, **client, *created, flags.job, flags.json);
  if (!result.interrupted) return result.exit_code;
  Note(shell, flags.data_dir.empty()
                  ? "\ninterrupted; nothing is kept"
                  : absl::StrCat("\ninterrupted; ", created->name(), " goes on with\n",
                                 "  attnprune-server --data-dir ", flags.data_dir));
  return kInterrupted;
}

int Run(const Shell& shell, const RunFlags& flags) {
  JobTensors tensors;
  const auto job = MakeJob(flags.job, tensors);
  if (!job.ok()) return UsageError(shell, job.status());
  const auto server = EmbeddedServer::Start(flags.data_dir, flags.threads);
  if (!server.ok()) return LocalError(shell, server.status());
  return RunOn(shell, **server, flags, *job, tensors);
}

}  // namespace

void AddRunCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand(
      "run", "Prune with a server of its own: submit, watch, compare, save. No set-up");
  AddJobFlags(*command, flags->job);
  command->add_option("--data-dir", flags->data_dir, "Keep the server's folder here")
      ->type_name("DIR");
  command->add_option("--threads", flags->threads, "That solve the job; 0: one a core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  AddJsonFlag(*command, flags->json);
  command->callback(
      [action, flags] { *action = [flags](const Shell& shell) { return Run(shell, *flags); }; });
}

}  // namespace attnprune::cli
