#include "core/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

namespace attnprune {
namespace {

constexpr int32_t kCapitalIWithDot = 0x130;

const utf8proc_uint8_t* BytesAt(absl::string_view text, size_t at) {
  return reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at;
}

bool IsAscii(absl::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

int OptionsOf(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case NormalForm::kNfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case NormalForm::kNfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case NormalForm::kNfkd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  return 0;
}

int CombiningClass(int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

std::vector<utf8proc_int32_t> Decomposed(absl::string_view text, int options) {
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  std::array<utf8proc_int32_t, 32> parts;  // U+FDFA has 18
  for (size_t at = 0; at < text.size(); at += CharacterLength(text[at])) {
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        FirstCharacter(text.substr(at)), parts.data(), parts.size(),
        static_cast<utf8proc_option_t>(options | UTF8PROC_DECOMPOSE), nullptr);
    points.insert(points.end(), parts.begin(), parts.begin() + count);
  }
  return points;
}

// The canonical order of marks. utf8proc_decompose would sort a long run of them in quadratic time.
void SortMarks(std::vector<utf8proc_int32_t>* points) {
  const auto is_mark = [](int32_t point) { return CombiningClass(point) != 0; };
  const auto end = points->end();
  for (auto run = std::find_if(points->begin(), end, is_mark); run != end;) {
    const auto run_end = std::find_if_not(run, end, is_mark);
    std::stable_sort(run, run_end,
                     [](int32_t a, int32_t b) { return CombiningClass(a) < CombiningClass(b); });
    run = std::find_if(run_end, end, is_mark);
  }
}

}  // namespace

size_t WellFormedPrefix(absl::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    utf8proc_int32_t point;
    const utf8proc_ssize_t length = utf8proc_iterate(
        BytesAt(text, at), static_cast<utf8proc_ssize_t>(text.size() - at), &point);
    if (length <= 0) break;
    at += static_cast<size_t>(length);
  }
  return at;
}

size_t CharacterLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte < 0x80) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

int32_t FirstCharacter(absl::string_view text) {
  if (static_cast<unsigned char>(text[0]) < 0x80) return text[0];
  utf8proc_int32_t point = -1;
  utf8proc_iterate(BytesAt(text, 0), static_cast<utf8proc_ssize_t>(text.size()), &point);
  return point;
}

size_t LastCharacterStart(absl::string_view text) {
  size_t start = text.size() - 1;
  while ((static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return start;
}

void AppendCharacter(int32_t code_point, std::string* text) {
  std::array<utf8proc_uint8_t, 4> bytes;
  const utf8proc_ssize_t length = utf8proc_encode_char(code_point, bytes.data());
  text->append(reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(length));
}

std::string Normalized(absl::string_view text, NormalForm form) {
  if (IsAscii(text)) return std::string(text);
  const int options = OptionsOf(form);
  std::vector<utf8proc_int32_t> points = Decomposed(text, options);
  SortMarks(&points);
  if ((options & UTF8PROC_COMPOSE) != 0) {
    const utf8proc_ssize_t length =
        utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()),
                                 static_cast<utf8proc_option_t>(options));
    points.resize(static_cast<size_t>(length));
  }
  std::string out;
  out.reserve(text.size());
  for (const int32_t point : points) AppendCharacter(point, &out);
  return out;
}

std::string Lowercased(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += CharacterLength(text[at])) {
    const int32_t point = FirstCharacter(text.substr(at));
    AppendCharacter(utf8proc_tolower(point), &out);
    // The one character whose small letter is two; utf8proc has the first of them.
    if (point == kCapitalIWithDot) AppendCharacter(0x307, &out);
  }
  return out;
}

bool IsWhiteSpace(int32_t code_point) {
  if (code_point < 0x80) return code_point == ' ' || (code_point >= '\t' && code_point <= '\r');
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return true;
    default:
      return code_point == 0x85;
  }
}

bool IsWordCharacter(int32_t code_point) {
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return code_point == 0x200C || code_point == 0x200D;  // Join_Control
  }
}

size_t LeadingWhiteSpace(absl::string_view text) {
  size_t at = 0;
  while (at < text.size() && IsWhiteSpace(FirstCharacter(text.substr(at)))) {
    at += CharacterLength(text[at]);
  }
  return at;
}

size_t TrailingWhiteSpace(absl::string_view text) {
  size_t kept = text.size();
  while (kept > 0) {
    const size_t last = LastCharacterStart(text.substr(0, kept));
    if (!IsWhiteSpace(FirstCharacter(text.substr(last)))) break;
    kept = last;
  }
  return text.size() - kept;
}

}  // namespace attnprune
