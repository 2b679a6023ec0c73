// The flags that every subcommand of a server takes, and the client they make.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_CONNECT_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_CONNECT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "client/cli/flags/command_line.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

inline constexpr char kDefaultServer[] = "127.0.0.1:50051";

struct ConnectFlags {
  std::string server = kDefaultServer;
  bool server_named = false;  // by the flag or the environment
  bool in_process = false;    // it is never away
  // As ClientOptions has them.
  bool tls = false;
  std::string ca_file, cert_file, key_file, token_file;
  // With a server that cannot be reached; not given: the library's, longer for watches.
  absl::optional<absl::Duration> patience;
  absl::optional<absl::Duration> timeout;  // of each try of a call; not given: the library's
  bool json = false;
};

// default_server: what its help says of a server that is not named.
void AddConnectFlags(Command& command, ConnectFlags& flags,
                     const std::string& default_server = kDefaultServer);
void AddJsonFlag(Command& command, bool& json);
void AddDuration(Command& command, const std::string& name, absl::Duration& duration,
                 const std::string& help);

// The calls are part of the trace in the environment's TRACEPARENT, or of a new one.
absl::StatusOr<std::unique_ptr<client::Client>> Connect(const Shell& shell,
                                                        const ConnectFlags& flags);

// "jobs/x" of "x" or "jobs/x".
std::string JobName(const std::string& text);
// Whether a NAME is a run's, "runs/r-x" or "r-x", and not a job's.
bool NamesRun(const std::string& text);
std::string RunName(const std::string& text);  // "runs/r-x" of both

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_CONNECT_H_
