// A server inside the command line, for those who have none.
#ifndef ATTNPRUNE_CLIENT_CLI_EMBEDDED_SERVER_H_
#define ATTNPRUNE_CLIENT_CLI_EMBEDDED_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace attnprune {
class Server;
}

namespace attnprune::cli {

// The server's folder; removed again if it is a temporary one, unless the process is killed.
class DataFolder {
 public:
  explicit DataFolder(const std::string& asked);  // empty: a temporary folder
  ~DataFolder();
  DataFolder(const DataFolder&) = delete;
  DataFolder& operator=(const DataFolder&) = delete;

  const std::string& path() const { return path_; }  // empty: could not be made

 private:
  const std::string path_;
  const bool temporary_;
};

// Ends the process at once, whatever its other threads do, with every temporary DataFolder gone.
[[noreturn]] void RemoveTemporaryFoldersAndExit(int code);

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

 private:
  explicit EmbeddedServer(const std::string& data_dir);

  const DataFolder folder_;  // outlives the server
  std::unique_ptr<Server> server_;
};

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_EMBEDDED_SERVER_H_
