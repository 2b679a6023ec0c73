// attnprune submit: upload what the server lacks, create the job, and watch it if asked to.
#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/connect.h"
#include "client/cli/format.h"
#include "client/cli/job_flags.h"
#include "client/cli/output_check.h"
#include "client/cli/submission.h"
#include "client/cli/watch_session.h"

namespace attnprune::cli {
namespace {

struct SubmitFlags {
  JobFlags job;
  ConnectFlags connect;
  bool watch = false, validate_only = false;
};

absl::Status Check(const SubmitFlags& flags) {
  const JobFlags& job = flags.job;
  const bool wants_files = !job.output.empty() || !job.save_mask.empty() || !job.plot.empty();
  if (!wants_files || flags.watch) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--output, --save-mask and --plot need --watch; or use attnprune fetch later");
}

int TellEstimate(const Shell& shell, const SubmitFlags& flags, const v1::Job& job) {
  if (flags.connect.json) {
    *shell.out << Json(job, JsonStyle::kIndented);
  } else {
    *shell.out << "valid; memory " << BytesText(job.estimate().memory_bytes()) << ", time "
               << SecondsText(job.estimate().seconds()) << " on one idle thread\n";
  }
  return kDone;
}

int TellJob(const Shell& shell, const SubmitFlags& flags, const v1::Job& job) {
  if (flags.connect.json) {
    *shell.out << Json(job, JsonStyle::kIndented);
  } else {
    *shell.out << job.name() << "\n";
    Note(shell, absl::StrCat("watch it with\n  attnprune watch ", job.name(), " --server ",
                             flags.connect.server));
  }
  return kDone;
}

int Run(const Shell& shell, const SubmitFlags& flags) {
  if (const absl::Status status = Check(flags); !status.ok()) return UsageError(shell, status);
  JobTensors tensors;
  const auto job = MakeJob(flags.job, tensors);
  if (!job.ok()) return UsageError(shell, job.status());
  const absl::Status outputs = CheckJobOutputs(flags.job);
  if (!outputs.ok()) return UsageError(shell, outputs);
  const auto client = Connect(shell, flags.connect);
  if (!client.ok()) return UsageError(shell, client.status());
  const auto created =
      Submit(shell, **client, *job, tensors,
             flags.validate_only ? SubmitMode::kValidateOnly : SubmitMode::kCreate);
  if (!created.ok()) return ServerError(shell, created.status());
  if (flags.validate_only) return TellEstimate(shell, flags, *created);
  if (!flags.watch) return TellJob(shell, flags, *created);
  Note(shell, created->name());
  const FollowResult result = Follow(shell, **client, *created, flags.job, flags.connect.json);
  if (!result.interrupted) return result.exit_code;
  return SayHowToComeBack(shell, created->name(), flags.connect.server, result.last_sequence);
}

}  // namespace

void AddSubmitCommand(CLI::App& app, Action* action) {
  auto flags = std::make_shared<SubmitFlags>();
  CLI::App* command = app.add_subcommand("submit", "Give a job to a server; prints its name");
  AddConnectFlags(*command, flags->connect);
  AddJobFlags(*command, flags->job);
  command->add_flag("--watch", flags->watch, "Watch it to its end, then compare and save");
  command
      ->add_flag("--validate-only", flags->validate_only,
                 "Check it and print what it will need; create nothing")
      ->excludes("--watch");
  command->callback(
      [action, flags] { *action = [flags](const Shell& shell) { return Run(shell, *flags); }; });
}

}  // namespace attnprune::cli
