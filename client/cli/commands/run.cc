// attnprune run: a server of its own for one job, or one for each layer of a model. No set-up,
// nothing left but the files asked for.
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/embedded_server.h"
#include "client/cli/jobs/make_job.h"
#include "client/cli/jobs/model_run.h"
#include "client/cli/jobs/submission.h"

namespace attnprune::cli {
namespace {

struct RunFlags {
  JobFlags job;
  std::string data_dir;  // empty: a temporary folder
  int threads = 0;
  int64_t memory_budget = 0;  // bytes; 0: the machine's memory
  bool json = false;
};

// what: the job or jobs that may go on.
int SayInterrupted(const Shell& shell, const RunFlags& flags, const std::string& what) {
  Note(shell, flags.data_dir.empty()
                  ? "\ninterrupted; nothing is kept"
                  : absl::StrCat("\ninterrupted; ", what, " goes on with\n",
                                 "  attnprune-server --data-dir ", flags.data_dir));
  return kInterrupted;
}

int RunOneJob(const Shell& shell, client::Client& client, const RunFlags& flags, const v1::Job& job,
              const JobTensors& tensors) {
  const auto created = Submit(shell, client, job, tensors, SubmitMode::kCreate);
  if (!created.ok()) return ServerError(shell, created.status());
  const FollowResult result = Follow(shell, client, *created, flags.job, flags.json);
  return result.interrupted ? SayInterrupted(shell, flags, created->name()) : result.exit_code;
}

int RunAllLayers(const Shell& shell, client::Client& client, const RunFlags& flags,
                 const ModelRun& run, const JobTensors& tensors) {
  const SubmittedRun submitted = SubmitModelRun(shell, client, run, tensors, SubmitMode::kCreate);
  if (!submitted.status.ok()) return ServerError(shell, submitted.status);
  const FollowedRun followed = FollowModelRun(shell, client, submitted.jobs, flags.job, flags.json);
  return followed.interrupted ? SayInterrupted(shell, flags, LabelOf(run)) : followed.exit_code;
}

using Work = std::function<int(client::Client& client)>;

// Does the work on a server that ends with it.
int OnServerOfItsOwn(const Shell& shell, const RunFlags& flags, const Work& work) {
  const auto server = EmbeddedServer::Start(flags.data_dir, flags.threads, flags.memory_budget);
  if (!server.ok()) return LocalError(shell, server.status());
  ConnectFlags connect;
  connect.server = (*server)->address();
  const auto client = Connect(shell, connect);
  return client.ok() ? work(**client) : ServerError(shell, client.status());
}

int Run(const Shell& shell, const RunFlags& flags) {
  JobTensors tensors;
  if (flags.job.layer == kAllLayers) {
    const auto run = MakeModelRun(flags.job, tensors);
    if (!run.ok()) return UsageError(shell, run.status());
    return OnServerOfItsOwn(shell, flags, [&](client::Client& client) {
      return RunAllLayers(shell, client, flags, *run, tensors);
    });
  }
  const auto job = MakeJob(flags.job, tensors);
  if (!job.ok()) return UsageError(shell, job.status());
  const absl::Status outputs = CheckJobOutputs(flags.job);
  if (!outputs.ok()) return UsageError(shell, outputs);
  return OnServerOfItsOwn(shell, flags, [&](client::Client& client) {
    return RunOneJob(shell, client, flags, *job, tensors);
  });
}

}  // namespace

void AddRunCommand(Command& program) {
  auto flags = std::make_shared<RunFlags>();
  Command command = program.AddCommand(
      "run", "Prune with a server of its own: submit, watch, compare, save. No set-up");
  AddJobFlags(command, flags->job);
  command.Add("--data-dir", flags->data_dir, "Keep the server's folder here").Type("DIR");
  command.Add("--threads", flags->threads, "That solve the job; 0: one a core")
      .Between(0, 1024)
      .ShowDefault();
  command
      .Add("--memory-budget", flags->memory_budget,
           "Memory that the job may take, such as 2GiB: dense attention that does not fit is "
           "rebuilt at every step, tokens that do not fit even so stay in a temporary file; "
           "0: the machine's memory")
      .Bytes()
      .AtLeast(0)
      .Type("BYTES")
      .Default("0");
  AddJsonFlag(command, flags->json);
  command.Run([flags](const Shell& shell) { return Run(shell, *flags); });
}

}  // namespace attnprune::cli
