// Who changed or took what, when and from where: a file of JSON lines.
//
//   {"time":"2026-11-24T12:00:00.125Z","action":"CreateJob","code":"OK","via":"grpc","who":"","tenant":"",
//    "peer":"127.0.0.1:40112","job":"jobs/e977ypsmh7yv","tensor":"","request_id":"order/66"}
#ifndef ATTNPRUNE_SERVER_OBSERVE_AUDIT_LOG_H_
#define ATTNPRUNE_SERVER_OBSERVE_AUDIT_LOG_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "core/io/file.h"
#include "server/observe/call_log.h"
#include "server/observe/instruments.h"

namespace attnprune {

struct AuditLine {
  absl::string_view action;  // "CreateJob"
  std::string code;          // "OK"; of HTTP "200"
  absl::string_view via;     // "grpc", "http" or, of what the server does by itself, "server"
  CallSource caller;
  std::string job;         // "jobs/x"; empty: none
  std::string tensor;      // its SHA-256; empty: none
  std::string request_id;  // empty: none
};

// Each line is appended by one write, at once: it outlives the process, not a power loss. While the
// file takes none, lines are lost and counted, the log says so once, and calls go on. Thread-safe;
// writers wait for each other.
class AuditLog {
 public:
  // Made with mode 0600 if it is missing. FAILED_PRECONDITION: a link, or no regular file.
  // PERMISSION_DENIED: cannot be written. lost: counts the lines lost; must outlive it.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path, Counter* lost);

  // A call that changes something, or takes a tensor: one line. Others: none.
  void OnRpc(const FinishedRpc& call);
  void OnHttpRequest(const FinishedHttpRequest& call);
  void Write(const AuditLine& line);

  // Goes on in the file that is at the path now, as after a rotation. After an error it goes on in
  // the one that it has.
  absl::Status Reopen();

 private:
  AuditLog(std::string path, Counter* lost, File file);
  absl::Status Append(const std::string& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  Counter* const lost_;
  Mutex mutex_;
  File file_ ABSL_GUARDED_BY(mutex_);
  bool torn_ ABSL_GUARDED_BY(mutex_);           // the file ends within a line
  int64_t failed_ ABSL_GUARDED_BY(mutex_) = 0;  // lines since one was last written
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_AUDIT_LOG_H_
