#include "client/cli/embedded_server.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>

#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "server/observe/log.h"
#include "server/server.h"

namespace attnprune::cli {
namespace {

constexpr absl::Duration kDrain = absl::Seconds(8);
constexpr int kRemovals = 1000;  // a thread that still writes can make one of them fail

// The temporary folders there are. Whoever leaves the process keeps the lock, so that no other is
// made.
struct Folders {
  Mutex mutex;
  std::set<std::string> paths ABSL_GUARDED_BY(mutex);
};

Folders& TemporaryFolders() {
  static Folders& folders = *new Folders;  // for threads that outlive main
  return folders;
}

std::string MakeTemporaryFolder() {
  std::string path = std::filesystem::temp_directory_path() / "attnprune-XXXXXX";
  Folders& folders = TemporaryFolders();
  const MutexLock lock(&folders.mutex);
  if (mkdtemp(path.data()) == nullptr) return "";
  folders.paths.insert(path);
  return path;
}

}  // namespace

DataFolder::DataFolder(const std::string& asked)
    : path_(asked.empty() ? MakeTemporaryFolder() : asked), temporary_(asked.empty()) {}

DataFolder::~DataFolder() {
  if (!temporary_ || path_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  Folders& folders = TemporaryFolders();
  const MutexLock lock(&folders.mutex);
  folders.paths.erase(path_);
}

void RemoveTemporaryFoldersAndExit(int code) {
  Folders& folders = TemporaryFolders();
  const MutexLock lock(&folders.mutex);
  for (const std::string& path : folders.paths) {
    std::error_code error;
    for (int i = 0; i < kRemovals && std::filesystem::exists(path, error); ++i) {
      std::filesystem::remove_all(path, error);
    }
  }
  _exit(code);
}

EmbeddedServer::EmbeddedServer(const std::string& data_dir) : folder_(data_dir) {}

EmbeddedServer::~EmbeddedServer() {
  if (server_ != nullptr) server_->Drain(kDrain);
}

absl::StatusOr<std::unique_ptr<EmbeddedServer>> EmbeddedServer::Start(const std::string& data_dir,
                                                                      int threads,
                                                                      int64_t memory_budget) {
  StartLogging(LogFormat::kText, LogLevel::kError);
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  std::unique_ptr<EmbeddedServer> embedded(new EmbeddedServer(data_dir));
  if (embedded->folder_.path().empty()) {
    return absl::UnknownError("cannot make a temporary folder");
  }
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.data_dir = embedded->folder_.path();
  options.threads_per_job = threads;
  options.max_job_memory_bytes = memory_budget;
  ATTNPRUNE_ASSIGN_OR_RETURN(embedded->server_, Server::Start(options));
  return embedded;
}

std::string EmbeddedServer::address() const { return server_->address(); }

}  // namespace attnprune::cli
