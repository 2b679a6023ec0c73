#include "core/text/added_tokens.h"

#include <cstddef>
#include <utility>

#include "core/base/status_macros.h"
#include "core/text/unicode.h"

namespace attnprune {
namespace {

absl::StatusOr<AddedToken> ParseAddedToken(const JsonNode& item) {
  ATTNPRUNE_RETURN_IF_ERROR(item.CheckObject());
  AddedToken token;
  ATTNPRUNE_ASSIGN_OR_RETURN(token.id, item["id"].TokenId());
  ATTNPRUNE_ASSIGN_OR_RETURN(token.content, item["content"].String());
  ATTNPRUNE_ASSIGN_OR_RETURN(token.single_word, item["single_word"].BoolOr(false));
  ATTNPRUNE_ASSIGN_OR_RETURN(token.lstrip, item["lstrip"].BoolOr(false));
  ATTNPRUNE_ASSIGN_OR_RETURN(token.rstrip, item["rstrip"].BoolOr(false));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool special, item["special"].BoolOr(false));
  ATTNPRUNE_ASSIGN_OR_RETURN(token.normalized, item["normalized"].BoolOr(!special));
  return token;
}

bool TouchesWord(absl::string_view text, size_t begin, size_t end) {
  const absl::string_view before = text.substr(0, begin);
  const absl::string_view after = text.substr(end);
  return (!before.empty() &&
          IsWordCharacter(FirstCharacter(before.substr(LastCharacterStart(before))))) ||
         (!after.empty() && IsWordCharacter(FirstCharacter(after)));
}

int64_t EdgeOf(int32_t node, char byte) {
  return int64_t{node} * 256 + static_cast<unsigned char>(byte);
}

}  // namespace

absl::StatusOr<std::vector<AddedToken>> ParseAddedTokens(const JsonNode& list) {
  std::vector<AddedToken> tokens;
  if (list.IsNull()) return tokens;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JsonNode> items, list.Items());
  for (const JsonNode& item : items) {
    ATTNPRUNE_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(item));
    if (!token.content.empty()) tokens.push_back(std::move(token));
  }
  return tokens;
}

void AddedTokenFinder::Add(const AddedToken& token, absl::string_view pattern) {
  if (pattern.empty()) return;
  begins_[static_cast<unsigned char>(pattern[0])] = true;
  int32_t node = 0;
  for (const char byte : pattern) {
    const auto next = static_cast<int32_t>(entry_of_node_.size());
    const auto [child, is_new] = children_.try_emplace(EdgeOf(node, byte), next);
    if (is_new) entry_of_node_.push_back(-1);
    node = child->second;
  }
  entry_of_node_[static_cast<size_t>(node)] = static_cast<int32_t>(entries_.size());
  entries_.push_back({token, pattern.size()});
}

int32_t AddedTokenFinder::ChildOf(int32_t node, char byte) const {
  const auto child = children_.find(EdgeOf(node, byte));
  return child == children_.end() ? -1 : child->second;
}

const AddedTokenFinder::Entry* AddedTokenFinder::LongestAt(absl::string_view text,
                                                           size_t at) const {
  if (!begins_[static_cast<unsigned char>(text[at])]) return nullptr;
  const Entry* longest = nullptr;
  int32_t node = 0;
  for (; at < text.size(); ++at) {
    node = ChildOf(node, text[at]);
    if (node < 0) break;
    const int32_t entry = entry_of_node_[static_cast<size_t>(node)];
    if (entry >= 0) longest = &entries_[static_cast<size_t>(entry)];
  }
  return longest;
}

// last: where the token before ends, white space before which is its own.
AddedTokenFinder::Match AddedTokenFinder::WithWhiteSpace(const Entry& entry, absl::string_view text,
                                                         size_t last, size_t at) {
  Match match{&entry, at, at + entry.length};
  if (entry.token.lstrip) match.begin -= TrailingWhiteSpace(text.substr(last, at - last));
  if (entry.token.rstrip) match.end += LeadingWhiteSpace(text.substr(match.end));
  return match;
}

absl::Status AddedTokenFinder::Cut(absl::string_view text,
                                   absl::FunctionRef<absl::Status(absl::string_view)> on_text,
                                   absl::FunctionRef<void(int32_t)> on_token) const {
  size_t last = 0;  // the end of the token before
  size_t at = 0;
  while (!entries_.empty() && at < text.size()) {
    const Entry* entry = LongestAt(text, at);
    if (entry == nullptr) {
      ++at;
      continue;
    }
    const size_t begin = std::exchange(at, at + entry->length);
    // One whose beginning the token before has swallowed is none.
    if (begin < last) continue;
    if (entry->token.single_word && TouchesWord(text, begin, at)) continue;
    const Match match = WithWhiteSpace(*entry, text, last, begin);
    if (match.begin > last) {
      ATTNPRUNE_RETURN_IF_ERROR(on_text(text.substr(last, match.begin - last)));
    }
    on_token(entry->token.id);
    last = match.end;
  }
  return last < text.size() ? on_text(text.substr(last)) : absl::OkStatus();
}

}  // namespace attnprune
