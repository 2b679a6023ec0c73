#include "client/cli/flags/connect.h"

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/library/status_details.h"

namespace attnprune::cli {
namespace {

absl::Status ParseDuration(const std::string& text, absl::Duration& duration) {
  if (absl::ParseDuration(text, &duration) && duration >= absl::ZeroDuration()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("must be a duration such as 90s or 30m, got ", text));
}

// Over a bar that is being drawn, which goes on below.
void TellReachable(const Shell& shell, const std::string& server, bool reachable) {
  if (shell.err_columns.has_value()) *shell.err << "\r\x1b[K";
  Note(shell, reachable ? absl::StrCat("again connected to server ", server)
                        : absl::StrCat("server ", server, " does not answer; trying again ..."));
}

}  // namespace

void AddDuration(Command& command, const std::string& name, absl::Duration& duration,
                 const std::string& help) {
  const auto parse = [&duration](const std::string& text) { return ParseDuration(text, duration); };
  command.AddParsed(name, parse, help,
                    {.type = "DURATION", .default_text = absl::FormatDuration(duration)});
}

void AddJsonFlag(Command& command, bool& json) {
  command.Add("--json", json,
              "Print the API's messages as JSON on standard output, and whatever is for people "
              "on standard error");
}

void AddConnectFlags(Command& command, ConnectFlags& flags, const std::string& default_server) {
  const auto name_server = [&flags](const std::string& text) {
    flags.server = text;
    flags.server_named = true;
    return absl::OkStatus();
  };
  command.AddParsed(
      "--server", name_server, "Where the server listens",
      {.type = "HOST:PORT", .default_text = default_server, .environment = "ATTNPRUNE_SERVER"});
  const auto parse = [&flags](const std::string& text) {
    return ParseDuration(text, flags.patience.emplace());
  };
  command.AddParsed("--patience", parse,
                    "How long to retry a server that cannot be reached; default: 10s, and 5m while "
                    "watching",
                    {.type = "DURATION"});
  AddJsonFlag(command, flags.json);
}

absl::StatusOr<std::unique_ptr<client::Client>> Connect(const Shell& shell,
                                                        const ConnectFlags& flags) {
  client::ClientOptions options;
  options.server = flags.server;
  if (flags.patience.has_value()) {
    options.retry.patience = *flags.patience;
    options.watch_retry.patience = *flags.patience;
  }
  if (flags.timeout.has_value()) options.call_timeout = *flags.timeout;
  options.interrupt = shell.interrupt;
  options.reachable = [shell, server = flags.server](bool reachable) {
    TellReachable(shell, server, reachable);
  };
  if (const char* const trace = getenv("TRACEPARENT")) options.traceparent = trace;
  return client::Client::Create(options);
}

std::string JobName(const std::string& text) {
  return text.find('/') == std::string::npos ? absl::StrCat("jobs/", text) : text;
}

bool NamesRun(const std::string& text) {
  return absl::StartsWith(text, "runs/") || absl::StartsWith(text, "r-");
}

std::string RunName(const std::string& text) {
  return text.find('/') == std::string::npos ? absl::StrCat("runs/", text) : text;
}

}  // namespace attnprune::cli
