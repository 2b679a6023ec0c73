#include "server/observe/audit_log.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/observe/log.h"

namespace attnprune {
namespace {

std::string ToJsonLine(const AuditLine& line) {
  const nlohmann::ordered_json json = {
      {"time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone())},
      {"action", std::string(line.action)},
      {"code", line.code},
      {"via", std::string(line.via)},
      {"who", line.caller.who},
      {"tenant", line.caller.tenant},
      {"peer", line.caller.peer},
      {"job", line.job},
      {"tensor", line.tensor},
      {"request_id", line.request_id}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// As a process that was killed, or a full disk, leaves it.
bool EndsWithinLine(const File& file) {
  const int64_t size = file.Size().value_or(0);
  char last = '\n';
  return size > 0 && file.ReadAt(size - 1, absl::MakeSpan(&last, 1)).ok() && last != '\n';
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path, Counter* lost) {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForAppending(path));
  return std::unique_ptr<AuditLog>(new AuditLog(path, lost, std::move(file)));
}

AuditLog::AuditLog(std::string path, Counter* lost, File file)
    : path_(std::move(path)), lost_(lost), file_(std::move(file)), torn_(EndsWithinLine(file_)) {}

void AuditLog::OnRpc(const FinishedRpc& call) {
  if (!IsAudited(call.method) || call.validate_only) return;
  Write({.action = call.method,
         .code = absl::StatusCodeToString(call.code),
         .via = "grpc",
         .caller = call.caller,
         .job = call.job,
         .tensor = call.tensor,
         .request_id = call.request.request_id});
}

void AuditLog::OnHttpRequest(const FinishedHttpRequest& call) {
  if (call.action.empty()) return;
  Write({.action = call.action,
         .code = absl::StrCat(call.status),
         .via = "http",
         .caller = call.caller,
         .job = call.job,
         .tensor = call.tensor,
         .request_id = call.request.request_id});
}

void AuditLog::Write(const AuditLine& line) {
  const std::string text = ToJsonLine(line);
  const MutexLock lock(&mutex_);
  const absl::Status written = Append(text);
  if (!written.ok()) {
    lost_->Add();
    if (++failed_ == 1) {
      Log(LogLevel::kError, "audit.fail", {{"error", std::string(written.message())}});
    }
  } else if (failed_ > 0) {
    Log(LogLevel::kWarning, "audit.again",
        {{"file", path_}, {"lost", absl::StrCat(std::exchange(failed_, 0))}});
  }
}

// Of a line that is written in part the rest is lost: the next one begins anew behind it.
absl::Status AuditLog::Append(const std::string& line) {
  const std::string text = torn_ ? absl::StrCat("\n", line) : line;
  absl::Status written = file_.Append(absl::MakeConstSpan(text.data(), text.size()));
  torn_ = written.ok() ? false : EndsWithinLine(file_);
  return written;
}

absl::Status AuditLog::Reopen() {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForAppending(path_));
  const MutexLock lock(&mutex_);
  file_ = std::move(file);
  torn_ = EndsWithinLine(file_);
  return absl::OkStatus();
}

}  // namespace attnprune
