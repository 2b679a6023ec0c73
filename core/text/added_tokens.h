// tokenizer.json's added_tokens: texts such as "<|endoftext|>" that are cut out before anything
// else and become one id each.
#ifndef ATTNPRUNE_CORE_TEXT_ADDED_TOKENS_H_
#define ATTNPRUNE_CORE_TEXT_ADDED_TOKENS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/text/json_node.h"

namespace attnprune {

struct AddedToken {
  int32_t id = 0;
  std::string content;       // not empty
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // swallows the white space after it
  bool normalized = false;   // looked for in the normalised text, not in the text as given
};

// Null: none. Entries without content are left out, as tokenizers does. INVALID_ARGUMENT names the
// key at fault.
absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(const JsonNode& list);

// Finds added tokens in text: the leftmost first, of those the longest. Immutable once filled.
class AddedTokenFinder {
 public:
  // pattern: the content as it stands in the texts to come. An empty one is never found; of equal
  // ones the last counts.
  void Add(const AddedToken& token, absl::string_view pattern);

  // Calls on_text with each piece between tokens (a view of text, never empty) and on_token with
  // each token's id, from left to right. Stops at an error of on_text and returns it. text is
  // well-formed UTF-8. O(length of the longest token) a byte.
  absl::Status Cut(absl::string_view text,
                   absl::FunctionRef<absl::Status(absl::string_view piece)> on_text,
                   absl::FunctionRef<void(int32_t id)> on_token) const;

 private:
  struct Entry {
    AddedToken token;
    size_t length;  // of the pattern, bytes
  };
  struct Match {
    const Entry* entry;
    size_t begin, end;  // with the white space that it swallows
  };

  const Entry* LongestAt(absl::string_view text, size_t at) const;
  int32_t ChildOf(int32_t node, char byte) const;  // -1: none
  static Match WithWhiteSpace(const Entry& entry, absl::string_view text, size_t last, size_t at);

  std::vector<Entry> entries_;
  // A trie of bytes. Node 0 is its root.
  std::vector<int32_t> entry_of_node_ = {-1};
  absl::flat_hash_map<int64_t, int32_t> children_;  // by node * 256 + byte
  std::array<bool, 256> begins_ = {};               // bytes that a pattern begins with
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_ADDED_TOKENS_H_
