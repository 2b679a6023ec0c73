#include "core/text/corpus.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/io/known_content.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/io/strict_json.h"
#include "core/text/json_node.h"
#include "core/text/unicode.h"

namespace attnprune {
namespace {

constexpr int kLineDepth = 64;  // of nested JSON

// text is what follows the byte order mark, `offset` bytes into the file.
absl::Status CheckUtf8(absl::string_view text, size_t offset, absl::string_view name) {
  const size_t good = WellFormedPrefix(text);
  if (good == text.size()) return absl::OkStatus();
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(good), '\n');
  return Refuse(name, ": it must be UTF-8, but at byte ", offset + good, ", in line ", line,
                ", no character begins");
}

absl::Status CheckNotEmpty(absl::string_view text, absl::string_view name) {
  if (text.find_first_not_of(" \t\r\n") != absl::string_view::npos) return absl::OkStatus();
  return Refuse(name, ": there is no text in it");
}

absl::StatusOr<std::string> TextOfLine(absl::string_view line, const std::string& place) {
  const absl::StatusOr<nlohmann::json> object = ParseStrictJson(line, kLineDepth);
  if (!object.ok()) return Annotate(object.status(), place);
  if (!object->contains("text")) return Refuse(place, ": there is no field \"text\"");
  return JsonNode(*object, place)["text"].String();
}

// Cuts the first line off `rest`.
absl::string_view TakeLine(absl::string_view* rest) {
  const absl::string_view line = rest->substr(0, rest->find('\n'));
  rest->remove_prefix(std::min(line.size() + 1, rest->size()));
  return line;
}

}  // namespace

absl::StatusOr<std::string> ParseTextCorpus(absl::string_view bytes, absl::string_view name) {
  const absl::string_view text = absl::StripPrefix(bytes, kByteOrderMark);
  ATTNPRUNE_RETURN_IF_ERROR(CheckUtf8(text, bytes.size() - text.size(), name));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNotEmpty(text, name));
  return std::string(text);
}

absl::StatusOr<std::string> ParseJsonLinesCorpus(absl::string_view bytes, absl::string_view name,
                                                 absl::string_view separator) {
  absl::string_view rest = absl::StripPrefix(bytes, kByteOrderMark);
  ATTNPRUNE_RETURN_IF_ERROR(CheckUtf8(rest, bytes.size() - rest.size(), name));
  std::string text;
  bool is_first = true;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const absl::string_view line = absl::StripAsciiWhitespace(TakeLine(&rest));
    if (line.empty()) continue;
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string document,
                               TextOfLine(line, absl::StrCat(name, ": line ", number)));
    if (!is_first) absl::StrAppend(&text, separator);
    is_first = false;
    absl::StrAppend(&text, document);
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckNotEmpty(text, name));
  return text;
}

absl::StatusOr<std::string> ReadCorpus(const std::string& path, absl::string_view separator) {
  const bool is_lines = absl::EndsWithIgnoreCase(path, ".jsonl");
  if (!is_lines && !absl::EndsWithIgnoreCase(path, ".txt")) {
    return Refuse(path, ": a text corpus must be a .txt or a .jsonl file");
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const absl::string_view bytes(file.bytes().data(), file.bytes().size());
  ATTNPRUNE_RETURN_IF_ERROR(Annotate(CheckNoLfsPointer(bytes), path));
  absl::StatusOr<std::string> text =
      is_lines ? ParseJsonLinesCorpus(bytes, path, separator) : ParseTextCorpus(bytes, path);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(file.bytes()));
  return text;
}

}  // namespace attnprune
