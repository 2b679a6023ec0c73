// The one place that decides who may do what: every call of both ports asks it.
#ifndef ATTNPRUNE_SERVER_ACCESS_GATE_H_
#define ATTNPRUNE_SERVER_ACCESS_GATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "server/access/caller.h"
#include "server/access/stream_slots.h"
#include "server/access/tokens.h"

namespace attnprune::access {

struct GateOptions {
  std::string token_file;  // empty: everyone is Everyone()
  StreamLimits streams = {};
  // Told what an operator should know: that a changed file was taken, or why it was not, or that
  // others can read it. Never a token. May be empty. From any thread.
  std::function<void(absl::string_view event, const std::string& detail)> on_event;
};

// Thread-safe. Calls look whether the token file has changed (stat) and, if so, read it.
class Gate {
 public:
  // The system's error, or INVALID_ARGUMENT with the line at fault: a server does not start without
  // the file that it was given.
  static absl::StatusOr<std::unique_ptr<Gate>> Open(GateOptions options);

  bool has_tokens() const { return !options_.token_file.empty(); }

  // Whose the token is. UNAUTHENTICATED, with the same message for none, a wrong and a former one.
  absl::StatusOr<Caller> Identify(absl::string_view token) const;
  // By HashOfToken, for sessions.
  absl::StatusOr<Caller> IdentifyHash(const std::string& token_hash) const;

  // Who may do `action`, a name of rules.h, with the value of an `authorization` header or metadata
  // ("Bearer TOKEN"; empty: none). UNAUTHENTICATED; PERMISSION_DENIED: of Authorize.
  absl::StatusOr<Caller> Admit(absl::string_view action, absl::string_view authorization) const;

  // For an upload, a download or a watch of that caller's, as long as it is open. Errors: of
  // StreamSlots::Take.
  absl::StatusOr<StreamSlot> OpenStream(const Caller& caller) const {
    return streams_.Take(caller.tenant);
  }

 private:
  // What tells a changed file from the one that was read.
  struct Version {
    int64_t seconds = 0, nanoseconds = 0, size = -1;
    uint64_t inode = 0, device = 0;
    int64_t changed_seconds = 0, changed_nanoseconds = 0;
    bool operator==(const Version&) const = default;
  };

  explicit Gate(GateOptions options) : options_(std::move(options)), streams_(options_.streams) {}

  static Version VersionOf(const std::string& path);
  std::shared_ptr<const TokenTable> Current() const;
  absl::Status Load(const Version& version) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tell(absl::string_view event, const std::string& detail) const;

  const GateOptions options_;
  const StreamSlots streams_;
  mutable Mutex mutex_;
  mutable std::shared_ptr<const TokenTable> table_ ABSL_GUARDED_BY(mutex_);
  mutable Version version_ ABSL_GUARDED_BY(mutex_);  // of the file last read, taken or not
};

// The token in "Bearer TOKEN", the word in any case; empty: there is none. Pure.
absl::string_view BearerToken(absl::string_view authorization);

}  // namespace attnprune::access

#endif  // ATTNPRUNE_SERVER_ACCESS_GATE_H_
