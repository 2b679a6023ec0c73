// attnprune-server's command lines and config file.
#ifndef ATTNPRUNE_SERVER_FLAGS_H_
#define ATTNPRUNE_SERVER_FLAGS_H_

#include <string>

#include "absl/types/optional.h"
#include "server/backup/backup.h"
#include "server/observe/log.h"
#include "server/server.h"

namespace attnprune {

inline constexpr int kWrongUsage = 2;  // an exit code

struct ServerFlags {
  ServerOptions server;
  std::string port_file;       // gets the port, for scripts; empty: none
  std::string http_port_file;  // gets the port of HTTP
  LogFormat log_format = LogFormat::kText;
  LogLevel log_level = LogLevel::kInfo;
  absl::Duration drain_timeout = absl::Seconds(8);  // after SIGTERM
};

// `attnprune-server token new`.
struct TokenFlags {
  std::string tenant, role, name;
  std::string token_file;  // empty: none
};

// Prints help, version or what is wrong, and then returns nothing and sets *exit_code: 0, or
// kWrongUsage.
absl::optional<ServerFlags> ParseServerFlags(int argc, const char* const* argv, int* exit_code);
// The same of the arguments from "token" on.
absl::optional<TokenFlags> ParseTokenFlags(int argc, const char* const* argv, int* exit_code);

// The same of `attnprune-server backup`; argv[0] is "backup".
absl::optional<BackupOptions> ParseBackupFlags(int argc, const char* const* argv, int* exit_code);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_FLAGS_H_
