// The flags that every subcommand of a server takes, and the client they make.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_CONNECT_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_CONNECT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "client/cli/output/shell.h"
#include "client/library/client.h"

namespace CLI {
class App;
class Validator;
}  // namespace CLI

namespace attnprune::cli {

struct ConnectFlags {
  std::string server = "127.0.0.1:50051";
  // With a server that cannot be reached; not given: the library's, longer for watches.
  absl::optional<absl::Duration> patience;
  absl::optional<absl::Duration> timeout;  // of each try of a call; not given: the library's
  bool json = false;
};

void AddConnectFlags(CLI::App& app, ConnectFlags& flags);
void AddJsonFlag(CLI::App& app, bool& json);
void AddDuration(CLI::App& app, const std::string& name, absl::Duration& duration,
                 const std::string& help);

// For ->check(): a whole number, at least `min`.
CLI::Validator AtLeast(int64_t min);

// The calls are part of the trace in the environment's TRACEPARENT, or of a new one.
absl::StatusOr<std::unique_ptr<client::Client>> Connect(const Shell& shell,
                                                        const ConnectFlags& flags);

// "jobs/x" of "x" or "jobs/x".
std::string JobName(const std::string& text);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_CONNECT_H_
