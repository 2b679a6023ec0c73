#include "server/objects/s3_credentials.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "server/objects/environment.h"

namespace attnprune {
namespace {

constexpr char kFileField[] = "blobs_credentials_file";
constexpr int64_t kMostBytes = 64 << 10;
constexpr absl::Duration kFetchBefore = absl::Minutes(5), kFetchAgain = absl::Seconds(30);
const RealClock kRealClock;

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, File::OpenForReading(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  if (size > kMostBytes) {
    return MustError(kFileField, absl::StrCat("have at most ", kMostBytes, " bytes"), size);
  }
  std::string text(static_cast<size_t>(size), '\0');
  ATTNPRUNE_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(text)));
  return text;
}

absl::StatusOr<S3Keys> ReadKeys(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadSmallFile(path);
  if (!text.ok()) return WithField(Annotate(text.status(), kFileField), kFileField);
  return ParseS3Keys(*text);
}

}  // namespace

absl::StatusOr<S3Keys> ParseS3Keys(absl::string_view text) {
  S3Keys keys;
  const std::pair<absl::string_view, std::string*> names[] = {
      {"aws_access_key_id", &keys.id},
      {"aws_secret_access_key", &keys.secret},
      {"aws_session_token", &keys.session_token}};
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<absl::string_view, absl::string_view> words =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    for (const auto& [name, value] : names) {
      if (absl::AsciiStrToLower(absl::StripAsciiWhitespace(words.first)) != name) continue;
      if (value->empty()) *value = std::string(absl::StripAsciiWhitespace(words.second));
    }
  }
  if (!keys.id.empty() && !keys.secret.empty()) return keys;
  return FieldError(kFileField,
                    "must have lines aws_access_key_id = … and aws_secret_access_key = …");
}

S3Credentials::S3Credentials(std::string file, absl::optional<MachineKeys> machine, S3Keys keys,
                             const Clock* clock)
    : file_(std::move(file)),
      machine_(std::move(machine)),
      clock_(clock == nullptr ? &kRealClock : clock),
      keys_(std::move(keys)) {}

// Holds one lock at a time: stacks and heaps give addresses of locks to others in any order.
S3Credentials::S3Credentials(S3Credentials&& other) noexcept
    : S3Credentials(other.file_, other.machine_, other.TakeKeys(), other.clock_) {}

S3Keys S3Credentials::TakeKeys() {
  const MutexLock lock(&mutex_);
  return std::move(keys_);
}

absl::StatusOr<S3Credentials> S3Credentials::Load(const std::string& file, const Clock* clock) {
  if (!file.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(S3Keys keys, ReadKeys(file));
    return S3Credentials(file, absl::nullopt, std::move(keys), clock);
  }
  S3Keys keys = {.id = EnvironmentOf("AWS_ACCESS_KEY_ID"),
                 .secret = EnvironmentOf("AWS_SECRET_ACCESS_KEY"),
                 .session_token = EnvironmentOf("AWS_SESSION_TOKEN")};
  if (keys.id.empty() || keys.secret.empty()) return LoadOfMachine(clock);
  return S3Credentials("", absl::nullopt, std::move(keys), clock);
}

absl::StatusOr<S3Credentials> S3Credentials::LoadOfMachine(const Clock* clock) {
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<MachineKeys> machine, MachineKeys::FromEnvironment());
  std::string got = "got none";
  if (machine.has_value()) {
    absl::StatusOr<S3Keys> keys = machine->Fetch();
    if (keys.ok()) return S3Credentials("", std::move(machine), *std::move(keys), clock);
    absl::StrAppend(&got, "; ", keys.status().message());
  }
  return FieldError("blobs", absl::StrCat("must have keys for s3://: AWS_ACCESS_KEY_ID and "
                                          "AWS_SECRET_ACCESS_KEY of the environment, "
                                          "blobs_credentials_file, or a machine with a role; ",
                                          got));
}

absl::StatusOr<S3Keys> S3Credentials::Get() {
  const MutexLock lock(&mutex_);
  if (!file_.empty()) {  // each time: two changes may have one time of change
    absl::StatusOr<S3Keys> keys = ReadKeys(file_);
    if (keys.ok()) keys_ = *std::move(keys);
  }
  if (machine_.has_value()) ATTNPRUNE_RETURN_IF_ERROR(FetchAgain());
  return keys_;
}

absl::Status S3Credentials::FetchAgain() {
  const absl::Time now = clock_->Now();
  if (now < keys_.expires - kFetchBefore) return absl::OkStatus();
  if (now >= next_fetch_) {
    absl::StatusOr<S3Keys> keys = machine_->Fetch();
    fetched_ = keys.status();
    if (keys.ok()) keys_ = *std::move(keys);
    next_fetch_ = now + (now < keys_.expires ? kFetchAgain : absl::Seconds(1));
  }
  if (now < keys_.expires) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("blobs: the keys have ended", fetched_.ok() ? "" : "; ", fetched_.message()));
}

}  // namespace attnprune
