#include "client/cli/flags/connect.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/library/status_details.h"

namespace attnprune::cli {
namespace {

bool ParseDuration(const std::string& name, const CLI::results_t& texts, absl::Duration& duration) {
  if (absl::ParseDuration(texts.back(), &duration) && duration >= absl::ZeroDuration()) return true;
  throw CLI::ValidationError(
      name, absl::StrCat("must be a duration such as 90s or 30m, got ", texts.back()));
}

}  // namespace

void AddDuration(CLI::App& app, const std::string& name, absl::Duration& duration,
                 const std::string& help) {
  const auto parse = [name, &duration](const CLI::results_t& texts) {
    return ParseDuration(name, texts, duration);
  };
  app.add_option(name, parse, help)
      ->type_name("DURATION")
      ->default_str(absl::FormatDuration(duration));
}

CLI::Validator AtLeast(int64_t min) {
  return CLI::Validator(
      [min](const std::string& text) {
        int64_t value = 0;
        if (absl::SimpleAtoi(text, &value) && value >= min) return std::string();
        return absl::StrCat("must be a whole number, at least ", min, ", got ", text);
      },
      "", "");
}

void AddJsonFlag(CLI::App& app, bool& json) {
  app.add_flag("--json", json,
               "Print the API's messages as JSON on standard output, and whatever is for people "
               "on standard error");
}

void AddConnectFlags(CLI::App& app, ConnectFlags& flags) {
  app.add_option("--server", flags.server, "Where the server listens")
      ->type_name("HOST:PORT")
      ->envname("ATTNPRUNE_SERVER")
      ->capture_default_str();
  const auto parse = [&flags](const CLI::results_t& texts) {
    flags.patience.emplace();
    return ParseDuration("--patience", texts, *flags.patience);
  };
  app.add_option("--patience", parse,
                 "Keep trying a server that cannot be reached for so long; default: 10s, and 5m "
                 "while watching")
      ->type_name("DURATION");
  AddJsonFlag(app, flags.json);
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
  if (const char* const trace = getenv("TRACEPARENT")) options.traceparent = trace;
  return client::Client::Create(options);
}

std::string JobName(const std::string& text) {
  return text.find('/') == std::string::npos ? absl::StrCat("jobs/", text) : text;
}

}  // namespace attnprune::cli
