#include "client/cli/embedded_server.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "server/observe/log.h"
#include "server/server.h"

namespace attnprune::cli {
namespace {

constexpr absl::Duration kDrain = absl::Seconds(8);

}  // namespace

DataFolder::DataFolder(const std::string& asked) : path_(asked), temporary_(asked.empty()) {
  if (!temporary_) return;
  path_ = std::filesystem::temp_directory_path() / "attnprune-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) path_.clear();
}

DataFolder::~DataFolder() {
  std::error_code ignored;
  if (temporary_ && !path_.empty()) std::filesystem::remove_all(path_, ignored);
}

EmbeddedServer::EmbeddedServer(const std::string& data_dir) : folder_(data_dir) {}

EmbeddedServer::~EmbeddedServer() {
  if (server_ != nullptr) server_->Drain(kDrain);
}

absl::StatusOr<std::unique_ptr<EmbeddedServer>> EmbeddedServer::Start(const std::string& data_dir,
                                                                      int threads) {
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
  ATTNPRUNE_ASSIGN_OR_RETURN(embedded->server_, Server::Start(options));
  return embedded;
}

std::string EmbeddedServer::address() const { return server_->address(); }

}  // namespace attnprune::cli
