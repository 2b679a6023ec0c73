#include "server/blobs/upload_spec.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/tensor/dtype.h"

namespace attnprune {
namespace {

constexpr absl::string_view kMagic = "attnprune-upload-1";
constexpr size_t kLongestUploadId = 128;

bool IsLowerHexDigit(char c) { return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f'); }

bool IsUploadIdCharacter(char c) {
  return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
}

}  // namespace

bool IsSha256(absl::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), IsLowerHexDigit);
}

std::string UploadKey(absl::string_view tenant, absl::string_view upload_id) {
  if (tenant.empty()) return std::string(upload_id);
  return absl::StrCat(tenant, "@", upload_id);
}

std::string UploadSpec::Key() const { return UploadKey(tenant, upload_id); }

bool IsUploadId(absl::string_view text) {
  return !text.empty() && text.size() <= kLongestUploadId &&
         std::all_of(text.begin(), text.end(), IsUploadIdCharacter);
}

int64_t ElementBytes(absl::string_view dtype) {
  if (dtype == "BITMASK") return 1;
  const absl::optional<DType> parsed = ParseDType(dtype);
  if (!parsed.has_value()) return 0;
  if (!IsConvertible(*parsed) && *parsed != DType::kI32) return 0;
  return static_cast<int64_t>(attnprune::SizeOf(*parsed));
}

absl::Status CheckSha256(absl::string_view field, absl::string_view text) {
  if (IsSha256(text)) return absl::OkStatus();
  return MustError(field, "be 64 lower-case hexadecimal digits", Quoted(text));
}

absl::Status CheckUploadId(absl::string_view field, absl::string_view text) {
  if (IsUploadId(text)) return absl::OkStatus();
  return MustError(field, "be 1 to 128 characters [A-Za-z0-9._-]", Quoted(text));
}

absl::Status CheckUploadSpec(const UploadSpec& spec) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadId("header.upload_id", spec.upload_id));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSha256("header.sha256", spec.sha256));
  const int64_t element = ElementBytes(spec.dtype);
  if (element == 0) {
    return MustError("header.dtype", "be F64, F32, F16, BF16, BITMASK or I32", Quoted(spec.dtype));
  }
  if (spec.size_bytes < 1) {
    return MustError("header.size_bytes", "be at least 1", spec.size_bytes);
  }
  if (spec.size_bytes % element != 0) {
    return FieldError("header.size_bytes",
                      absl::StrCat("must be a multiple of ", element, ", the size of one ",
                                   spec.dtype, ", got ", spec.size_bytes));
  }
  return absl::OkStatus();
}

std::string FormatSidecar(const UploadSpec& spec) {
  return absl::StrCat(kMagic, " ", spec.sha256, " ", spec.size_bytes, " ", spec.dtype, "\n");
}

absl::optional<UploadSpec> ParseSidecar(absl::string_view key, absl::string_view line) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  if (words.size() != 4) return absl::nullopt;
  UploadSpec spec;
  const size_t at = key.find('@');  // which no upload's id has
  if (at != absl::string_view::npos) spec.tenant = std::string(key.substr(0, at));
  spec.upload_id = std::string(key.substr(at == absl::string_view::npos ? 0 : at + 1));
  spec.sha256 = std::string(words[1]);
  if (!absl::SimpleAtoi(words[2], &spec.size_bytes)) return absl::nullopt;
  spec.dtype = std::string(absl::StripTrailingAsciiWhitespace(words[3]));
  // What does not come out again as it went in is torn, or not ours.
  if (!CheckUploadSpec(spec).ok() || FormatSidecar(spec) != line) return absl::nullopt;
  return spec;
}

}  // namespace attnprune
