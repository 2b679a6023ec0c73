#include "server/http/message.h"

#include <charconv>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"

namespace attnprune::http {
namespace {

// Nothing: a bad escape or a control character. '+' stands for a space in queries.
absl::optional<std::string> Decoded(absl::string_view text, char plus) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i] == '+' ? plus : text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return absl::nullopt;
      const char* const end = text.data() + i + 3;
      unsigned value = 0;
      if (std::from_chars(end - 2, end, value, 16).ptr != end) return absl::nullopt;
      c = static_cast<char>(value);
      i += 2;
    }
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c))) return absl::nullopt;
    decoded += c;
  }
  return decoded;
}

absl::Status BadTarget() {
  return absl::InvalidArgumentError("the request's target is not a path with a query");
}

}  // namespace

absl::string_view VerbName(Verb verb) {
  switch (verb) {
    case Verb::kGet:
      return "GET";
    case Verb::kHead:
      return "HEAD";
    case Verb::kPost:
      return "POST";
    case Verb::kPut:
      return "PUT";
    case Verb::kDelete:
      return "DELETE";
    case Verb::kOther:
      break;
  }
  return "other";
}

bool Changes(Verb verb) { return verb != Verb::kGet && verb != Verb::kHead; }

absl::Status ParseTarget(absl::string_view target, Request* request) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(target, absl::MaxSplits('?', 1));
  absl::optional<std::string> path = Decoded(parts.first, '+');
  if (!path.has_value() || path->empty() || path->front() != '/') return BadTarget();
  request->path = *std::move(path);
  request->query.clear();
  for (const absl::string_view part : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> sides =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    absl::optional<std::string> key = Decoded(sides.first, ' ');
    absl::optional<std::string> value = Decoded(sides.second, ' ');
    if (!key.has_value() || !value.has_value()) return BadTarget();
    request->query.emplace_back(*std::move(key), *std::move(value));
  }
  return absl::OkStatus();
}

SharedBytes StreamPiece(absl::string_view payload) {
  return std::make_shared<const std::string>(
      absl::StrCat(absl::Hex(payload.size()), "\r\n", payload, "\r\n"));
}

}  // namespace attnprune::http
