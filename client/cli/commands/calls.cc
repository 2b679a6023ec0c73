// attnprune get, cancel, delete, info and health: calls, and their answers.
#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/jobs/chosen.h"
#include "client/cli/jobs/embedded_server.h"
#include "client/cli/shell/printable.h"
#include "client/cli/views/format.h"
#include "client/cli/views/paint.h"
#include "client/cli/views/result_table.h"
#include "client/cli/views/run_table.h"
#include "core/base/format.h"

namespace attnprune::cli {
namespace {

struct JobCallFlags {
  ConnectFlags connect;
  ChoiceFlags choice;
};

// Shows an answer as JSON if that is asked for, else as `text` has it.
template <typename Answer, typename Text>
int Show(const Shell& shell, const ConnectFlags& flags, const absl::StatusOr<Answer>& answer,
         Text text) {
  ATTNPRUNE_EXIT_IF_ERROR(ServerError, answer.status());
  *shell.out << (flags.json ? Json(*answer, JsonStyle::kIndented)
                            : Painted(text(ForPeople(*answer)), shell.out_color));
  return kDone;
}

// The same of what `call` gets of a client.
template <typename Call, typename Text>
int ShowAnswer(const Shell& shell, const ConnectFlags& flags, Call call, Text text) {
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags));
  return Show(shell, flags, call(*client), text);
}

// `one` of each job and run that is chosen.
template <typename One>
int CallEach(const Shell& shell, const JobCallFlags& flags, const Findable& findable, One one) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckChoice(flags.choice));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags.connect));
  return ForEachChosen(shell, *client, flags.choice, findable,
                       [&](const std::string& name) { return one(*client, name); });
}

int Get(const Shell& shell, const JobCallFlags& flags) {
  return CallEach(shell, flags, {}, [&](client::Client& client, const std::string& name) {
    if (NamesRun(name)) {
      return Show(shell, flags.connect, client.GetRun(name),
                  [&](const v1::Run& run) { return RunText(run, absl::Now(), shell.out_columns); });
    }
    return Show(shell, flags.connect, client.GetJob(name),
                [&](const v1::Job& job) { return JobText(job, absl::Now(), shell.out_columns); });
  });
}

int Cancel(const Shell& shell, const JobCallFlags& flags) {
  const auto text = [](const auto& resource) {
    return absl::StrCat(resource.name(), "  ", StateText(resource.state()),
                        resource.cancel_requested() ? " (cancel requested)\n" : "\n");
  };
  const Findable findable = {.states = {v1::QUEUED, v1::RUNNING}, .none = kDone};
  return CallEach(shell, flags, findable, [&](client::Client& client, const std::string& name) {
    if (NamesRun(name)) return Show(shell, flags.connect, client.CancelRun(name), text);
    return Show(shell, flags.connect, client.CancelJob(name), text);
  });
}

int Delete(const Shell& shell, const JobCallFlags& flags) {
  const Findable findable = {.states = {v1::SUCCEEDED, v1::FAILED, v1::CANCELLED}, .none = kDone};
  return CallEach(shell, flags, findable, [&](client::Client& client, const std::string& name) {
    ATTNPRUNE_EXIT_IF_ERROR(ServerError,
                            NamesRun(name) ? client.DeleteRun(name) : client.DeleteJob(name));
    *shell.out << (flags.connect.json ? "{}" : name + "  deleted") << "\n";
    return int{kDone};
  });
}

// --- info ---

std::string ParameterText(const v1::ParameterInfo& parameter) {
  std::string text = absl::StrCat("    ", parameter.name());
  if (parameter.has_default_value()) {
    absl::StrAppend(&text, "=", FormatNumber(parameter.default_value()));
  }
  if (parameter.kind() == v1::ParameterInfo::SWITCH) {
    absl::StrAppend(&text, "  0 or 1");
  } else {
    absl::StrAppend(&text, "  ", FormatNumber(parameter.min()), " to ",
                    FormatNumber(parameter.max()),
                    parameter.kind() == v1::ParameterInfo::INTEGER ? ", whole" : "");
  }
  return absl::StrCat(text, "\n        ", parameter.help(), "\n");
}

std::string LimitText(int64_t bytes) {
  return bytes == std::numeric_limits<int64_t>::max() ? "no limit on" : BytesText(bytes);
}

std::string InfoText(const v1::ServerInfo& info) {
  std::string text =
      absl::StrCat("attnprune ", info.version(), "\ncpu       ", info.cpu(), "\nblas      ",
                   info.blas(), "\nworkers   ", info.workers(), ", threads a job ",
                   info.threads_per_job(), "\njobs      ", info.queued_jobs(), " queued, ",
                   info.running_jobs(), " running\nlimits    ", info.limits().max_queued_jobs(),
                   " queued jobs, ", LimitText(info.limits().max_tensor_bytes()), " a tensor, ",
                   LimitText(info.limits().max_total_tensor_bytes()), " all tensors\n\nmethods\n");
  for (const v1::MethodInfo& method : info.methods()) {
    absl::StrAppend(&text, "  ", method.name(), "  ", method.summary(), "\n    ",
                    method.draws_random_numbers() ? "draws random numbers: its result is the seed's"
                                                  : "draws no random numbers: --seed has no effect",
                    "\n");
    for (const v1::ParameterInfo& parameter : method.parameters()) {
      absl::StrAppend(&text, ParameterText(parameter));
    }
  }
  return text;
}

// The server's; where none was named and none is there, of the one that `run` starts.
int ShowInfo(const Shell& shell, const ConnectFlags& given) {
  constexpr absl::Duration kPatienceWithNone = absl::Seconds(1);
  const auto get_info = [](client::Client& client) { return client.GetServerInfo(); };
  if (given.server_named) return ShowAnswer(shell, given, get_info, InfoText);
  ConnectFlags flags = given;
  if (!flags.patience.has_value()) flags.patience = kPatienceWithNone;
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags));
  if (!absl::IsUnavailable(client->GetServerInfo().status())) {
    return ShowAnswer(shell, given, get_info, InfoText);
  }
  Note(shell, absl::StrCat("note: no server at ", flags.server, "; this is the one of `run`"));
  ATTNPRUNE_ASSIGN_OR_EXIT(LocalError, const auto own, EmbeddedServer::Start("", 0, 0));
  flags.server = own->address();
  return ShowAnswer(shell, flags, get_info, InfoText);
}

// --- health, for containers and scripts ---

int CheckHealth(const Shell& shell, const ConnectFlags& flags) {
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, flags));
  ATTNPRUNE_EXIT_IF_ERROR(ServerError, client->CheckHealth());
  *shell.out << (flags.json ? "{\"status\":\"SERVING\"}" : "serving") << "\n";
  return kDone;
}

void AddJobCall(Command& program, const std::string& name, const std::string& help,
                const std::string& which, int (*run)(const Shell&, const JobCallFlags&)) {
  Command command = program.AddCommand(name, help);
  JobCallFlags& flags = command.Runs(run);
  AddConnectFlags(command, flags.connect);
  AddChoiceFlags(command, flags.choice, which);
}

}  // namespace

void AddGetCommand(Command& program) {
  AddJobCall(program, "get", "Show jobs or runs and their results", "those", Get);
}

void AddCancelCommand(Command& program) {
  AddJobCall(program, "cancel", "End jobs or runs within one step", "those that have not ended",
             Cancel);
}

void AddDeleteCommand(Command& program) {
  AddJobCall(program, "delete", "Forget jobs or runs that have ended", "those that have ended",
             Delete);
}

void AddInfoCommand(Command& program) {
  Command command = program.AddCommand(
      "info",
      "Show the server, its limits, its methods and their parameters; where none is there and none "
      "is named, those of run");
  AddConnectFlags(command, command.Runs(ShowInfo));
}

void AddHealthCommand(Command& program) {
  Command command =
      program.AddCommand("health", "Exit with 0 if the server serves, with 3 if it does not");
  ConnectFlags& flags = command.Runs(CheckHealth);
  flags.patience = absl::ZeroDuration();
  // Less than probes wait (deploy/Dockerfile: 3 s), so that they have the reason and not a kill.
  flags.timeout = absl::Seconds(2);
  AddConnectFlags(command, flags);
  AddDuration(command, "--timeout", *flags.timeout,
              "How long to wait for the answer; after that the server does not serve");
}

}  // namespace attnprune::cli
