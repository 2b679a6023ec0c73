// attnprune run: a server of its own for one job. No set-up, nothing left but the files asked for.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/connect.h"
#include "client/cli/job_flags.h"
#include "client/cli/output_check.h"
#include "client/cli/submission.h"
#include "core/kernels/blas.h"
#include "server/observe/log.h"
#include "server/server.h"

namespace attnprune::cli {
namespace {

constexpr absl::Duration kDrain = absl::Seconds(8);

struct RunFlags {
  JobFlags job;
  std::string data_dir;  // empty: a temporary folder
  int threads = 0;
  bool json = false;
};

// The server's folder; removed again if it is a temporary one.
class DataFolder {
 public:
  explicit DataFolder(const std::string& asked) : path_(asked), temporary_(asked.empty()) {
    if (!temporary_) return;
    path_ = std::filesystem::temp_directory_path() / "attnprune-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~DataFolder() {
    std::error_code ignored;
    if (temporary_ && !path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  DataFolder(const DataFolder&) = delete;
  DataFolder& operator=(const DataFolder&) = delete;

  const std::string& path() const { return path_; }  // empty: could not be made

 private:
  std::string path_;
  const bool temporary_;
};

ServerOptions OptionsFor(const RunFlags& flags, const DataFolder& folder) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.data_dir = folder.path();
  options.threads_per_job = flags.threads;
  return options;
}

int RunOn(const Shell& shell, Server& server, const RunFlags& flags, const v1::Job& job,
          const JobTensors& tensors) {
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
  const absl::Status outputs = CheckJobOutputs(flags.job);
  if (!outputs.ok()) return UsageError(shell, outputs);
  StartLogging(LogFormat::kText, LogLevel::kError);
  if (const absl::Status blas = InitializeBlas(); !blas.ok()) return LocalError(shell, blas);
  const DataFolder folder(flags.data_dir);
  if (folder.path().empty()) {
    return LocalError(shell, absl::UnknownError("cannot make a temporary folder"));
  }
  const auto server = Server::Start(OptionsFor(flags, folder));
  if (!server.ok()) return LocalError(shell, server.status());
  const int code = RunOn(shell, **server, flags, *job, tensors);
  (*server)->Drain(kDrain);
  return code;
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
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  AddJsonFlag(*command, flags->json);
  command->callback(
      [action, flags] { *action = [flags](const Shell& shell) { return Run(shell, *flags); }; });
}

}  // namespace attnprune::cli
