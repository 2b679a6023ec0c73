// Text to token ids as a Hugging Face folder's tokenizer.json says: byte-level BPE (GPT-2, Llama 3,
// Qwen, ...) and BPE with byte fallback (Llama 2, Mistral, Gemma, ...). What the file asks for and
// is not supported is refused by name, never ignored.
//
//   added tokens -> normalizer -> added tokens again -> pre_tokenizer -> BPE -> BOS, EOS
//
// `truncation` and `padding` are not applied, as transformers does not; `decoder` is not needed.
// Source: the tokenizers library, src/tokenizer (added_vocabulary.rs, serialization.rs, ...).
#ifndef ATTNPRUNE_CORE_TEXT_TOKENIZER_H_
#define ATTNPRUNE_CORE_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace attnprune {

// Whether what the tokeniser puts before and after a text, such as BOS, is there too. Special
// tokens that the text itself spells out become their ids in either case.
enum class SpecialTokens { kAdd, kNone };

inline constexpr size_t kLongestText = size_t{1} << 30;  // bytes that Encode takes at once

struct NamedText {
  std::string name;  // of the file, for messages
  absl::string_view text;
};

// Immutable: any number of threads may encode with it. Move-only.
class Tokenizer {
 public:
  // path: a tokenizer.json, or the folder that has one; a tokenizer_config.json beside it is read
  // too. NOT_FOUND: there is none; the message says how to write one. INVALID_ARGUMENT: see Parse.
  static absl::StatusOr<Tokenizer> Open(const std::string& path);

  // config: of a tokenizer_config.json, if there is one. Its add_bos_token and add_eos_token
  // overrule the post_processor for the classes LlamaTokenizer(Fast) and GemmaTokenizer(Fast);
  // nothing else of it is used. INVALID_ARGUMENT names file, key, rule and value: what is
  // malformed, models but BPE, dropout, subword prefixes and suffixes, unsupported normalizers,
  // pre_tokenizers and post_processors, expressions that PCRE2 cannot read, ids that contradict
  // each other.
  static absl::StatusOr<Tokenizer> Parse(const NamedText& tokenizer,
                                         const absl::optional<NamedText>& config = absl::nullopt);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Ids in [0, vocabulary_size()). INVALID_ARGUMENT: text is not UTF-8 (the offset of the first
  // wrong byte is named) or longer than kLongestText; a character needs an unk_token that the
  // vocabulary lacks; an expression of the file takes too many steps on this text. O(n log n) for n
  // bytes; where the file has no pre_tokenizer the whole text is one word and takes up to 32 bytes
  // of memory a byte.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              SpecialTokens special = SpecialTokens::kAdd) const;

  int64_t vocabulary_size() const;  // 1 + the largest id, of added tokens too

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_TOKENIZER_H_
