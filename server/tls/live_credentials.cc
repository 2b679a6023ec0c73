#include "server/tls/live_credentials.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/observe/log.h"

namespace attnprune::tls {
namespace {

std::string TimeText(absl::Time time) { return absl::FormatTime(time, absl::UTCTimeZone()); }

// Empty: valid.
std::string WhyNotValid(const Validity& validity, absl::Time now) {
  if (now > validity.to) return absl::StrCat("expired on ", TimeText(validity.to));
  if (now < validity.from) return absl::StrCat("not valid before ", TimeText(validity.from));
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<LiveCredentials>> LiveCredentials::Open(
    const LiveCredentialsOptions& options) {
  ATTNPRUNE_ASSIGN_OR_RETURN(CredentialTexts texts, ReadTexts(options.files));
  ATTNPRUNE_ASSIGN_OR_RETURN(auto credentials, MakeCredentials(options.files, std::move(texts)));
  auto live = std::make_unique<LiveCredentials>(options, std::move(credentials));
  live->Look();
  return live;
}

LiveCredentials::LiveCredentials(const LiveCredentialsOptions& options,
                                 std::shared_ptr<const Credentials> credentials)
    : options_(options), current_(std::move(credentials)), thread_([this] { Loop(); }) {}

LiveCredentials::~LiveCredentials() {
  {
    const MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
}

std::shared_ptr<const Credentials> LiveCredentials::current() const {
  const MutexLock lock(&mutex_);
  return current_;
}

void LiveCredentials::Loop() {
  while (!StopsWithin(options_.interval)) Look();
}

bool LiveCredentials::StopsWithin(absl::Duration wait) {
  const MutexLock lock(&mutex_);
  return wake_.WaitFor(&mutex_, wait,
                       [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; });
}

void LiveCredentials::Look() {
  const MutexLock lock(&looking_);
  Take(Read());
  TellValidity();
}

// What is current where the files say the same.
absl::StatusOr<std::shared_ptr<const Credentials>> LiveCredentials::Read() const {
  ATTNPRUNE_ASSIGN_OR_RETURN(CredentialTexts texts, ReadTexts(options_.files));
  auto now = current();
  if (texts == now->texts) return now;
  return MakeCredentials(options_.files, std::move(texts));
}

// Certificate and key are two files: between the one's exchange and the other's they do not fit.
void LiveCredentials::Take(const absl::StatusOr<std::shared_ptr<const Credentials>>& read) {
  const std::string failure(read.status().message());
  if (failure != told_failure_ && !failure.empty()) {
    Log(LogLevel::kWarning, "tls.reload_failed", {{"error", failure}});
  }
  told_failure_ = failure;
  if (!read.ok() || *read == current()) return;
  {
    const MutexLock lock(&mutex_);
    current_ = *read;
  }
  Log(LogLevel::kInfo, "tls.reload",
      {{"file", options_.files.certificate}, {"expires", TimeText((*read)->validity.to)}});
}

void LiveCredentials::TellValidity() {
  const std::string text = WhyNotValid(current()->validity, options_.clock->Now());
  if (text != told_validity_ && !text.empty()) {
    Log(LogLevel::kWarning, "tls.validity",
        {{"file", options_.files.certificate}, {"certificate", text}});
  }
  told_validity_ = text;
}

}  // namespace attnprune::tls
