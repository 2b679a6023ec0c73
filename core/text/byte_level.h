// The printable character that stands for each byte in byte-level vocabularies (GPT-2's table):
// bytes 21-7E, A1-AC and AE-FF are themselves, the 68 others, in order, are U+0100, U+0101, ...
#ifndef ATTNPRUNE_CORE_TEXT_BYTE_LEVEL_H_
#define ATTNPRUNE_CORE_TEXT_BYTE_LEVEL_H_

#include <string>

#include "absl/strings/string_view.h"

namespace attnprune {

// GPT-2's expression for words, which a ByteLevel pre_tokenizer means by use_regex.
extern const absl::string_view kGpt2Words;

// Appends the character of each byte, in UTF-8.
void AppendByteCharacters(absl::string_view bytes, std::string* out);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_BYTE_LEVEL_H_
