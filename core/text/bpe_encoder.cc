#include "core/text/bpe_encoder.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/text/unicode.h"

namespace attnprune {
namespace {

constexpr size_t kMostWords = size_t{1} << 16;
constexpr size_t kLongestWord = 64;  // bytes of a word that is remembered; longer ones are cut

}  // namespace

absl::Status BpeEncoder::Append(absl::string_view word, std::vector<int32_t>* ids) {
  if (word.size() <= kLongestWord) return AppendRemembered(word, ids);
  if (model_.ignore_merges()) {
    if (const auto id = model_.Find(word)) {
      ids->push_back(*id);
      return absl::OkStatus();
    }
  }
  while (!word.empty()) {
    const size_t length = IndependentPart(word);
    const absl::string_view part = word.substr(0, length);
    // ignore_merges is about whole words: of those it remembers others' ids than a part has.
    const bool remembered = length <= kLongestWord && !model_.ignore_merges();
    ATTNPRUNE_RETURN_IF_ERROR(remembered ? AppendRemembered(part, ids) : AppendMerged(part, ids));
    word.remove_prefix(length);
  }
  return absl::OkStatus();
}

absl::Status BpeEncoder::AppendRemembered(absl::string_view word, std::vector<int32_t>* ids) {
  if (const auto known = words_.find(word); known != words_.end()) {
    const auto [begin, end] = known->second;
    ids->insert(ids->end(), known_ids_.begin() + static_cast<ptrdiff_t>(begin),
                known_ids_.begin() + static_cast<ptrdiff_t>(end));
    return absl::OkStatus();
  }
  const size_t begin = ids->size();
  if (const auto id = model_.ignore_merges() ? model_.Find(word) : absl::nullopt) {
    ids->push_back(*id);
  } else {
    ATTNPRUNE_RETURN_IF_ERROR(AppendMerged(word, ids));
  }
  Remember(word, *ids, begin);
  return absl::OkStatus();
}

void BpeEncoder::Remember(absl::string_view word, const std::vector<int32_t>& ids, size_t begin) {
  if (words_.size() == kMostWords) {
    words_.clear();
    known_ids_.clear();
  }
  words_.try_emplace(word, known_ids_.size(), known_ids_.size() + ids.size() - begin);
  known_ids_.insert(known_ids_.end(), ids.begin() + static_cast<ptrdiff_t>(begin), ids.end());
}

// Characters that the vocabulary lacks stay with their neighbours: a run of them may be one id, and
// where they are dropped their neighbours meet.
size_t BpeEncoder::IndependentPart(absl::string_view text) const {
  size_t at = CharacterLength(text[0]);
  int32_t last = FirstCharacter(text);
  bool last_known = model_.Find(text.substr(0, at)).has_value();
  while (at < text.size()) {
    const size_t length = CharacterLength(text[at]);
    const int32_t next = FirstCharacter(text.substr(at));
    const bool known = model_.Find(text.substr(at, length)).has_value();
    if (known && last_known && !model_.MayJoin(last, next)) break;
    at += length;
    last = next;
    last_known = known;
  }
  return at;
}

absl::Status BpeEncoder::AppendMerged(absl::string_view word, std::vector<int32_t>* ids) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeSymbols(word));
  MergeAll();
  for (const Symbol& symbol : symbols_) {
    if (symbol.id >= 0) ids->push_back(symbol.id);
  }
  return absl::OkStatus();
}

absl::Status BpeEncoder::MakeSymbols(absl::string_view word) {
  symbols_.clear();
  bool after_unknown = false;
  while (!word.empty()) {
    const absl::string_view character = word.substr(0, CharacterLength(word[0]));
    word.remove_prefix(character.size());
    const auto id = model_.Find(character);
    if (id.has_value()) AddSymbol(*id);
    const bool unknown = !id.has_value() && !AddFallback(character) && model_.has_unknown();
    if (unknown) ATTNPRUNE_RETURN_IF_ERROR(AddUnknown(character, after_unknown));
    after_unknown = unknown;
  }
  return absl::OkStatus();
}

absl::Status BpeEncoder::AddUnknown(absl::string_view character, bool after_unknown) {
  if (after_unknown && model_.fuse_unknown()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const int32_t id, model_.UnknownId(character));
  AddSymbol(id);
  return absl::OkStatus();
}

// The token of each of its bytes, if there is one for all.
bool BpeEncoder::AddFallback(absl::string_view character) {
  if (!model_.byte_fallback()) return false;
  std::array<int32_t, 4> bytes;
  size_t count = 0;
  for (const char byte : character) {
    const auto id = model_.Find(absl::StrFormat("<0x%02X>", static_cast<unsigned char>(byte)));
    if (!id.has_value()) return false;
    bytes[count++] = *id;
  }
  for (size_t i = 0; i < count; ++i) AddSymbol(bytes[i]);
  return true;
}

void BpeEncoder::AddSymbol(int32_t id) {
  const auto place = static_cast<int32_t>(symbols_.size());
  if (place > 0) symbols_.back().after = place;
  symbols_.push_back({id, place - 1, -1});
}

bool BpeEncoder::IsLater(const Candidate& a, const Candidate& b) {
  return std::tie(a.rank, a.place) > std::tie(b.rank, b.place);
}

void BpeEncoder::MergeAll() {
  heap_.clear();
  Candidate candidate;
  for (size_t place = 0; place < symbols_.size(); ++place) {
    if (MakeCandidate(static_cast<int32_t>(place), &candidate)) heap_.push_back(candidate);
  }
  std::ranges::make_heap(heap_, IsLater);
  while (!heap_.empty()) {
    std::ranges::pop_heap(heap_, IsLater);
    candidate = heap_.back();
    heap_.pop_back();
    Merge(candidate);
  }
}

// Whether the symbol at `place` and the one after it merge.
bool BpeEncoder::MakeCandidate(int32_t place, Candidate* candidate) const {
  const Symbol& left = symbols_[static_cast<size_t>(place)];
  if (left.after < 0) return false;
  const int32_t right = symbols_[static_cast<size_t>(left.after)].id;
  const auto merge = model_.FindMerge(left.id, right);
  if (!merge.has_value()) return false;
  *candidate = {merge->rank, place, left.id, right, merge->id};
  return true;
}

void BpeEncoder::Offer(int32_t place) {
  Candidate candidate;
  if (place < 0 || !MakeCandidate(place, &candidate)) return;
  heap_.push_back(candidate);
  std::ranges::push_heap(heap_, IsLater);
}

void BpeEncoder::Merge(const Candidate& candidate) {
  Symbol& left = symbols_[static_cast<size_t>(candidate.place)];
  if (left.id != candidate.left || left.after < 0) return;
  Symbol& right = symbols_[static_cast<size_t>(left.after)];
  if (right.id != candidate.right) return;
  left.id = candidate.merged;
  left.after = right.after;
  right.id = -1;
  if (left.after >= 0) symbols_[static_cast<size_t>(left.after)].before = candidate.place;
  Offer(left.before);
  Offer(candidate.place);
}

}  // namespace attnprune
