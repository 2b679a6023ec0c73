#include "core/io/known_content.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

bool IsHtml(absl::string_view bytes) {
  const absl::string_view text =
      absl::StripLeadingAsciiWhitespace(absl::StripPrefix(bytes.substr(0, 1024), kByteOrderMark));
  return absl::StartsWithIgnoreCase(text, "<!doctype") || absl::StartsWithIgnoreCase(text, "<html");
}

}  // namespace

absl::Status CheckNoLfsPointer(absl::string_view bytes) {
  if (!absl::StartsWith(bytes, "version https://git-lfs")) return absl::OkStatus();
  return absl::NotFoundError(
      "this is a Git LFS pointer, which stands for the file; fetch the file: git lfs pull");
}

absl::Status CheckKnownContent(absl::string_view bytes) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoLfsPointer(bytes));
  if (IsHtml(bytes)) {
    return absl::InvalidArgumentError(
        "this is an HTML page, such as a sign-in or an error page; download the file again");
  }
  if (absl::StartsWith(bytes, "PK\x03\x04")) {
    return absl::InvalidArgumentError(
        "this is a zip file, such as PyTorch's format; convert it: "
        "model.save_pretrained(DIR, safe_serialization=True)");
  }
  if (absl::StartsWith(bytes, "GGUF")) {
    return absl::InvalidArgumentError(
        "this is a GGUF file; take the model's safetensors files instead");
  }
  return absl::OkStatus();
}

}  // namespace attnprune
