#include "server/access/gate.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "server/access/rules.h"

namespace attnprune::access {
namespace {

absl::Status NoToken() {
  return absl::UnauthenticatedError(
      "a valid token is needed, as the header or metadata \"authorization: Bearer TOKEN\"");
}

absl::StatusOr<TokenTable> ReadTable(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string text, ReadTokenFile(path));
  return TokenTable::Parse(text);
}

bool OthersCanRead(const std::string& path) {
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 && (facts.st_mode & (S_IRGRP | S_IROTH)) != 0;
}

}  // namespace

absl::string_view BearerToken(absl::string_view authorization) {
  constexpr absl::string_view kScheme = "Bearer ";
  if (!absl::StartsWithIgnoreCase(authorization, kScheme)) return "";
  return authorization.substr(kScheme.size());
}

absl::StatusOr<std::unique_ptr<Gate>> Gate::Open(GateOptions options) {
  std::unique_ptr<Gate> gate(new Gate(std::move(options)));
  if (!gate->has_tokens()) return gate;
  const MutexLock lock(&gate->mutex_);
  const absl::Status loaded = gate->Load(VersionOf(gate->options_.token_file));
  ATTNPRUNE_RETURN_IF_ERROR(
      Annotate(loaded, absl::StrCat("token file ", gate->options_.token_file)));
  return gate;
}

void Gate::Tell(absl::string_view event, const std::string& detail) const {
  if (options_.on_event) options_.on_event(event, detail);
}

// A file that is not there has the version of none.
Gate::Version Gate::VersionOf(const std::string& path) {
  struct stat facts;
  if (stat(path.c_str(), &facts) != 0) return {};
  return {.seconds = facts.st_mtim.tv_sec,
          .nanoseconds = facts.st_mtim.tv_nsec,
          .size = facts.st_size,
          .inode = facts.st_ino,
          .device = facts.st_dev,
          .changed_seconds = facts.st_ctim.tv_sec,
          .changed_nanoseconds = facts.st_ctim.tv_nsec};
}

// The version is from before the reading: a change in between is seen by the next call.
absl::Status Gate::Load(const Version& version) const {
  version_ = version;
  ATTNPRUNE_ASSIGN_OR_RETURN(TokenTable table, ReadTable(options_.token_file));
  if (OthersCanRead(options_.token_file)) {
    Tell("tokens.readable", "the token file can be read by others; mode 0600 is safer");
  }
  table_ = std::make_shared<const TokenTable>(std::move(table));
  return absl::OkStatus();
}

std::shared_ptr<const TokenTable> Gate::Current() const {
  const Version found = VersionOf(options_.token_file);
  const MutexLock lock(&mutex_);
  if (found == version_) return table_;
  const absl::Status status = Load(found);
  status.ok()
      ? Tell("tokens.reload", absl::StrCat(table_->size(), " tokens"))
      : Tell("tokens.refused", absl::StrCat(status.message(), "; the tokens of before hold"));
  return table_;
}

absl::StatusOr<Caller> Gate::IdentifyHash(const std::string& token_hash) const {
  if (!has_tokens()) return Everyone();
  const std::shared_ptr<const TokenTable> table = Current();
  const Caller* const caller = table->Find(token_hash);
  if (caller == nullptr) return NoToken();
  return *caller;
}

absl::StatusOr<Caller> Gate::Identify(absl::string_view token) const {
  return IdentifyHash(HashOfToken(token));
}

absl::StatusOr<Caller> Gate::Admit(absl::string_view action,
                                   absl::string_view authorization) const {
  if (IsOpen(action)) return Caller();
  ATTNPRUNE_ASSIGN_OR_RETURN(Caller caller, Identify(BearerToken(authorization)));
  ATTNPRUNE_RETURN_IF_ERROR(Authorize(caller, action));
  return caller;
}

}  // namespace attnprune::access
