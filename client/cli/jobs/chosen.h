// Jobs and runs that a command is about: named, or found by their labels.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_CHOSEN_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_CHOSEN_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/flags/command_line.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

struct ChoiceFlags {
  std::vector<std::string> names;   // "x", "jobs/x", "r-x" or "runs/r-x"
  std::vector<std::string> labels;  // KEY=VALUE
};

// What --label finds.
struct Findable {
  std::vector<v1::JobState> states;  // none: all
  bool jobs = true;                  // beside runs
  ExitCode none = kFailed;           // of a command whose labels find nothing
};

// NAME... and --label. which: "those that still run", of what --label finds.
void AddChoiceFlags(Command& command, ChoiceFlags& flags, const std::string& which);

// INVALID_ARGUMENT unless there are either names or labels.
absl::Status CheckChoice(const ChoiceFlags& flags);

// Full names, "jobs/x" or "runs/r-x": as they were given or, of those that all labels fit, the
// oldest first and runs before jobs. Errors are the server's.
absl::StatusOr<std::vector<std::string>> Chosen(client::Client& client, const ChoiceFlags& flags,
                                                const Findable& findable);

// Calls `one` with the full name of each that is chosen; goes on with the next after a failure, but
// for one of the connection and an interrupt. Returns the first exit code that is not kDone.
int ForEachChosen(const Shell& shell, client::Client& client, const ChoiceFlags& flags,
                  const Findable& findable, const std::function<int(const std::string&)>& one);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_CHOSEN_H_
