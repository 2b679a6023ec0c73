// attnprune info: a server, its limits, its methods and their parameters.
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/views/format.h"
#include "core/base/format.h"

namespace attnprune::cli {
namespace {

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

std::string InfoText(const v1::ServerInfo& info) {
  std::string text =
      absl::StrCat("attnprune ", info.version(), "\ncpu       ", info.cpu(), "\nblas      ",
                   info.blas(), "\nworkers   ", info.workers(), ", threads a job ",
                   info.threads_per_job(), "\njobs      ", info.queued_jobs(), " queued, ",
                   info.running_jobs(), " running\nlimits    ", info.limits().max_queued_jobs(),
                   " queued jobs, ", BytesText(info.limits().max_tensor_bytes()), " a tensor, ",
                   BytesText(info.limits().max_total_tensor_bytes()), " in all\n\nmethods\n");
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

int ShowInfo(const Shell& shell, const ConnectFlags& flags) {
  const auto client = Connect(shell, flags);
  if (!client.ok()) return UsageError(shell, client.status());
  const auto info = (*client)->GetServerInfo();
  if (!info.ok()) return ServerError(shell, info.status());
  *shell.out << (flags.json ? Json(*info, JsonStyle::kIndented) : InfoText(*info));
  return kDone;
}

}  // namespace

void AddInfoCommand(Command& program) {
  auto flags = std::make_shared<ConnectFlags>();
  Command command =
      program.AddCommand("info", "Show the server, its limits, its methods and their parameters");
  AddConnectFlags(command, *flags);
  command.Run([flags](const Shell& shell) { return ShowInfo(shell, *flags); });
}

}  // namespace attnprune::cli
