#include "client/cli/flags/connect.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/library/status_details.h"

namespace attnprune::cli {
namespace {

// Of a patience: one that is over sooner ends with the error itself.
constexpr absl::Duration kWorthTelling = absl::Seconds(2);

absl::Status ParseDuration(const std::string& text, absl::Duration& duration) {
  if (absl::ParseDuration(text, &duration) && duration >= absl::ZeroDuration()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("must be a duration such as 90s or 30m, got ", text));
}

void AddFile(Command& command, const std::string& name, std::string& path,
             const std::string& environment, const std::string& help) {
  const auto parse = [&path](const std::string& text) {
    path = text;
    return text.empty() ? absl::InvalidArgumentError("must name a file, got nothing")
                        : absl::OkStatus();
  };
  command.AddParsed(name, parse, help, {.type = "FILE", .environment = environment});
}

void AddSecurityFlags(Command& command, ConnectFlags& flags) {
  command.Add("--tls", flags.tls,
              "Speak TLS to the server; its certificate must be of the system's authorities");
  AddFile(command, "--ca-file", flags.ca_file, "ATTNPRUNE_CA_FILE",
          "Speak TLS; the server's certificate must be of an authority in this PEM file");
  AddFile(command, "--cert-file", flags.cert_file, "ATTNPRUNE_CERT_FILE",
          "PEM file of a certificate to show to the server, which is spoken to by TLS");
  AddFile(command, "--key-file", flags.key_file, "ATTNPRUNE_KEY_FILE",
          "PEM file of its key, without a passphrase");
  AddFile(command, "--token-file", flags.token_file, "ATTNPRUNE_TOKEN_FILE",
          "File of the token to show to the server; without TLS on this machine only");
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
  AddSecurityFlags(command, flags);
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
  options.tls = flags.tls;
  options.ca_file = flags.ca_file;
  options.cert_file = flags.cert_file;
  options.key_file = flags.key_file;
  options.token_file = flags.token_file;
  if (flags.patience.has_value()) {
    options.retry.patience = *flags.patience;
    options.watch_retry.patience = *flags.patience;
  }
  if (flags.timeout.has_value()) options.call_timeout = *flags.timeout;
  options.interrupt = shell.interrupt;
  const absl::Duration patience = std::min(options.retry.patience, options.watch_retry.patience);
  if (!flags.in_process && patience >= kWorthTelling) {
    options.reachable = [shell, server = flags.server](bool reachable) {
      TellReachable(shell, server, reachable);
    };
  }
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
