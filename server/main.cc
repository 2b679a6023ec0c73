// attnprune-server: flags, a Server, and an orderly end.
//
// `attnprune-server token new` makes a token instead, `attnprune-server backup` copies a data
// folder: exit codes 0, 1 failed or left something out, 2 wrong usage.
//
// SIGHUP: the audit log is opened anew.
//
// Exit codes: 0 drained after SIGTERM or SIGINT; 1 cannot start; 2 wrong usage; 128 + signal when a
// second one cut the draining short.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/io/stop_request.h"
#include "core/kernels/blas.h"
#include "server/backup/backup.h"
#include "server/flags.h"
#include "server/http/access.h"
#include "server/observe/log.h"
#include "server/server.h"
#include "server/server_options.h"
#include "server/token_command.h"

namespace attnprune {
namespace {

constexpr int kFailed = 1;
constexpr absl::Duration kFlush = absl::Seconds(1);  // for the log's reader, at the end

constexpr char kAfterDataLoss[] =
    "nothing in the folder was changed; put a backup of it in its place, or start on another "
    "--data-dir";

void LogFailure(const absl::Status& status) {
  LogFields fields = {{"error", std::string(status.message())}};
  if (absl::IsDataLoss(status)) fields.emplace_back("hint", kAfterDataLoss);
  Log(LogLevel::kError, "server.fail", fields);
}

// In one write: the log has a thread that writes lines of its own.
void TellFailure(const absl::Status& status) {
  std::string text = absl::StrCat("attnprune-server: cannot start: ", status.message(), "\n");
  if (absl::IsDataLoss(status)) absl::StrAppend(&text, kAfterDataLoss, "\n");
  std::cerr << text;
}

// A line of the log where programs read it; where people do, a sentence.
int Fail(LogFormat format, const absl::Status& status) {
  format == LogFormat::kJson ? LogFailure(status) : TellFailure(status);
  return absl::IsInvalidArgument(status) ? kWrongUsage : kFailed;
}

// Whole or not at all, for scripts that wait for the file.
absl::Status WritePortFile(const std::string& path, int port) {
  const std::string temporary = absl::StrCat(path, ".new");
  std::ofstream file(temporary);
  file << port << std::endl;
  file.close();
  if (file && std::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("cannot write the port file ", path));
}

int Run(const ServerFlags& flags) {
  if (const absl::Status blas = InitializeBlas(); !blas.ok()) return Fail(flags.log_format, blas);
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(flags.server);
  if (!server.ok()) return Fail(flags.log_format, server.status());
  for (const auto& [path, port] : {std::pair(flags.http_port_file, (*server)->http_port()),
                                   std::pair(flags.port_file, (*server)->port())}) {
    if (path.empty()) continue;
    const absl::Status written = WritePortFile(path, port);
    if (!written.ok()) return Fail(flags.log_format, written);
  }
  std::cout << "listening on " << (*server)->address() << std::endl;
  if (const std::string http = (*server)->http_address(); !http.empty()) {
    const char* const scheme = flags.server.tls_cert_file.empty() ? "http" : "https";
    std::cout << "page and metrics on " << http::PageUrl(scheme, http) << std::endl;
  }
  Log(LogLevel::kInfo, "server.start",
      {{"address", (*server)->address()},
       {"http", (*server)->http_address()},
       {"data_dir", flags.server.data_dir}});
  int signal = WaitForStopRequest();
  for (; signal == SIGHUP; signal = WaitForStopRequest()) (*server)->ReopenAuditLog();
  Log(LogLevel::kInfo, "server.drain", {{"signal", absl::StrCat(signal)}});
  const bool idle = (*server)->Drain(flags.drain_timeout);
  Log(LogLevel::kInfo, "server.stop", {{"idle", idle ? "true" : "false"}});
  // A step that is still being computed is not waited for; its job is back in the queue.
  if (!idle) {
    FlushLog(kFlush);
    std::_Exit(0);
  }
  return 0;
}

std::string TextOf(const BackupReport& report, const std::string& output) {
  return absl::StrCat("backed up ", report.jobs, " jobs and runs, ", report.tensors, " tensors of ",
                      report.tensor_bytes, " bytes and ", report.checkpoints, " checkpoints to ",
                      output, "; ", report.copied_bytes, " bytes are copies, the rest links\n");
}

int BackUpFolder(int argc, char** argv) {
  int exit_code = 0;
  const auto options = ParseBackupFlags(argc, argv, &exit_code);
  if (!options.has_value()) return exit_code;
  const absl::StatusOr<BackupReport> report = BackUp(*options);
  if (!report.ok()) {
    std::cerr << "attnprune-server: no backup: " << report.status().message() << "\n";
    return absl::IsInvalidArgument(report.status()) ? kWrongUsage : kFailed;
  }
  std::cout << TextOf(*report, options->output);
  if (report->missing == 0) return 0;
  std::cerr << "attnprune-server: " << report->missing
            << " tensors and checkpoints are lost, and not in the backup\n";
  return kFailed;
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "token") return attnprune::RunTokenCommand(argc - 1, argv + 1);
  if (command == "backup") return attnprune::BackUpFolder(argc - 1, argv + 1);
  attnprune::CatchStopRequests();
  attnprune::CatchHangups();
  attnprune::RaiseOpenFileLimit();
  // gRPC's own lines would say in its words what ours say in ours.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  int exit_code = 0;
  const auto flags = attnprune::ParseServerFlags(argc, argv, &exit_code);
  if (!flags.has_value()) return exit_code;
  attnprune::StartLogging(flags->log_format, flags->log_level);
  exit_code = attnprune::Run(*flags);
  attnprune::FlushLog(attnprune::kFlush);
  return exit_code;
}
