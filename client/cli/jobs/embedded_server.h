// A server inside the command line, for `run`, and `prune` without --server.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_EMBEDDED_SERVER_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_EMBEDDED_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/cli/shell/temporary_folder.h"

namespace attnprune {
class Server;
}

namespace attnprune::cli {

// Listens on a free port of this machine until it is destroyed; then running jobs write a
// checkpoint, which is of use only in a folder that stays.
class EmbeddedServer {
 public:
  // data_dir empty: a temporary folder. threads: that solve a job; 0: one a core.
  // memory_budget: bytes that a job may take; 0: the machine's memory. Errors are local.
  static absl::StatusOr<std::unique_ptr<EmbeddedServer>> Start(const std::string& data_dir,
                                                               int threads, int64_t memory_budget);
  ~EmbeddedServer();

  std::string address() const;  // HOST:PORT
  const std::string& folder() const { return folder_; }
  // Its folder, which stays even where it was to be temporary.
  std::string KeepFolder();

 private:
  EmbeddedServer() = default;

  std::string folder_;
  std::unique_ptr<OwnTemporaryFolder> temporary_;  // outlives the server; null: the folder is given
  std::unique_ptr<Server> server_;
};

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_EMBEDDED_SERVER_H_
