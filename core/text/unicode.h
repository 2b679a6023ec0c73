// Characters of UTF-8 text, by utf8proc's tables (Unicode 14 in Debian 12's).
//
// All but WellFormedPrefix take well-formed UTF-8, which Tokenizer::Encode checks once. Pure.
#ifndef ATTNPRUNE_CORE_TEXT_UNICODE_H_
#define ATTNPRUNE_CORE_TEXT_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace attnprune {

// How many bytes at the start are whole characters of well-formed UTF-8: all of them if it equals
// text.size(), else the offset of the first byte that is wrong. Surrogates are not well-formed.
size_t WellFormedPrefix(absl::string_view text);

// Bytes of the character that begins with byte `lead`.
size_t CharacterLength(char lead);
// The first character, as a code point; text is not empty.
int32_t FirstCharacter(absl::string_view text);
// Where the last character begins; text is not empty.
size_t LastCharacterStart(absl::string_view text);
void AppendCharacter(int32_t code_point, std::string* text);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
// UAX #15. O(n log n) whatever the text.
std::string Normalized(absl::string_view text, NormalForm form);
// Each character by itself, as Rust's char::to_lowercase: no final sigma.
std::string Lowercased(absl::string_view text);

// The White_Space property; what lstrip, rstrip and Strip take away.
bool IsWhiteSpace(int32_t code_point);
// Letters, marks, decimal and letter-like numbers, connectors and joiners: \w of UTS #18.
bool IsWordCharacter(int32_t code_point);

// Bytes of the white space at the start, and at the end, of text.
size_t LeadingWhiteSpace(absl::string_view text);
size_t TrailingWhiteSpace(absl::string_view text);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_UNICODE_H_
