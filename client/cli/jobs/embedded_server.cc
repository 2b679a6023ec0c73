#include "client/cli/jobs/embedded_server.h"

#include <filesystem>
#include <limits>
#include <string>

#include "absl/time/time.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "server/observe/log.h"
#include "server/server.h"

namespace attnprune::cli {
namespace {

constexpr absl::Duration kDrain = absl::Seconds(8);

}  // namespace

EmbeddedServer::~EmbeddedServer() {
  if (server_ != nullptr) server_->Drain(kDrain);
}

absl::StatusOr<std::unique_ptr<EmbeddedServer>> EmbeddedServer::Start(const std::string& data_dir,
                                                                      int threads,
                                                                      int64_t memory_budget) {
  StartLogging(LogFormat::kText, LogLevel::kError);
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  std::unique_ptr<EmbeddedServer> embedded(new EmbeddedServer);
  ServerOptions options;
  options.data_dir = data_dir;
  if (data_dir.empty()) {
    embedded->temporary_ = std::make_unique<OwnTemporaryFolder>(
        std::filesystem::temp_directory_path().string(), "attnprune");
    options.data_dir = embedded->temporary_->path();
    if (options.data_dir.empty()) return absl::UnknownError("cannot make a temporary folder");
  }
  embedded->folder_ = options.data_dir;
  options.listen = "127.0.0.1:0";
  options.threads_per_job = threads;
  options.max_job_memory_bytes = memory_budget;
  options.max_tensor_bytes = options.max_total_bytes = std::numeric_limits<int64_t>::max();
  ATTNPRUNE_ASSIGN_OR_RETURN(embedded->server_, Server::Start(options));
  return embedded;
}

std::string EmbeddedServer::address() const { return server_->address(); }

std::string EmbeddedServer::KeepFolder() {
  if (temporary_ != nullptr) temporary_->Keep();
  return folder_;
}

}  // namespace attnprune::cli
