#include "server/objects/s3_credentials.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

constexpr char kFileField[] = "blobs_credentials_file";
constexpr int64_t kMostBytes = 64 << 10;

std::string Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

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

S3Credentials::S3Credentials(std::string file, S3Keys keys)
    : file_(std::move(file)), keys_(std::move(keys)) {}

S3Credentials::S3Credentials(S3Credentials&& other) noexcept : file_(other.file_) {
  const MutexLock lock(&other.mutex_);
  const MutexLock own(&mutex_);
  keys_ = std::move(other.keys_);
  read_ = other.read_;
}

absl::StatusOr<S3Credentials> S3Credentials::Load(const std::string& file) {
  if (!file.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(S3Keys keys, ReadKeys(file));
    return S3Credentials(file, std::move(keys));
  }
  S3Keys keys = {Environment("AWS_ACCESS_KEY_ID"), Environment("AWS_SECRET_ACCESS_KEY"),
                 Environment("AWS_SESSION_TOKEN")};
  if (!keys.id.empty() && !keys.secret.empty()) return S3Credentials("", std::move(keys));
  return FieldError("blobs",
                    "must have keys for s3://: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the "
                    "environment, or blobs_credentials_file; got none");
}

S3Keys S3Credentials::Get() {
  const MutexLock lock(&mutex_);
  if (file_.empty()) return keys_;
  const absl::optional<FileFacts> facts = LookUp(file_);
  if (facts.has_value() && facts->changed != read_) {
    absl::StatusOr<S3Keys> keys = ReadKeys(file_);
    if (keys.ok()) keys_ = *std::move(keys);
    read_ = facts->changed;
  }
  return keys_;
}

}  // namespace attnprune
