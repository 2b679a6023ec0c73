#include "client/cli/connect.h"

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "client/library/status_details.h"

namespace attnprune::cli {

void AddDuration(CLI::App& app, const std::string& name, absl::Duration& duration,
                 const std::string& help) {
  const auto parse = [&duration](const CLI::results_t& texts) {
    return absl::ParseDuration(texts.at(0), &duration) && duration >= absl::ZeroDuration();
  };
  app.add_option(name, parse, help)
      ->type_name("DURATION")
      ->default_str(absl::FormatDuration(duration));
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
  AddDuration(app, "--patience", flags.patience,
              "Keep trying a server that cannot be reached for so long");
  AddJsonFlag(app, flags.json);
}

absl::StatusOr<std::unique_ptr<client::Client>> Connect(const Shell& shell,
                                                        const ConnectFlags& flags) {
  client::ClientOptions options;
  options.server = flags.server;
  options.retry.patience = flags.patience;
  options.interrupt = shell.interrupt;
  return client::Client::Create(options);
}

std::string JobName(const std::string& text) {
  return text.find('/') == std::string::npos ? absl::StrCat("jobs/", text) : text;
}

}  // namespace attnprune::cli
