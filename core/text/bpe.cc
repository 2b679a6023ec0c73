#include "core/text/bpe.h"

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/text/unicode.h"

namespace attnprune {
namespace {

using nlohmann::json;

uint64_t PairKey(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

absl::Status CheckSupported(const JsonNode& model) {
  ATTNPRUNE_RETURN_IF_ERROR(model.CheckObject());
  const JsonNode type = model["type"];
  if (!type.IsNull() && !type.Is("BPE")) {
    return type.Must("be BPE, the one model that is supported");
  }
  const JsonNode dropout = model["dropout"];
  if (!dropout.IsNull() && dropout.value() != 0) {
    return dropout.Must("be null or 0: ids that are drawn are not supported");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonNode affix = model[key];
    if (!affix.IsNull() && !affix.Is("")) {
      return affix.Must("be null or empty: it is not supported");
    }
  }
  return absl::OkStatus();
}

// The two parts of "a b", at the first space, or of ["a", "b"].
absl::optional<std::pair<absl::string_view, absl::string_view>> PartsOf(const json& merge) {
  if (merge.is_string()) {
    const absl::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == absl::string_view::npos) return absl::nullopt;
    return {{text.substr(0, space), text.substr(space + 1)}};
  }
  const bool is_pair =
      merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
  if (!is_pair) return absl::nullopt;
  return {{merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()}};
}

}  // namespace

absl::StatusOr<BpeModel> BpeModel::Parse(const JsonNode& model) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckSupported(model));
  BpeModel parsed;
  ATTNPRUNE_RETURN_IF_ERROR(parsed.ReadVocabulary(model["vocab"]));
  ATTNPRUNE_RETURN_IF_ERROR(parsed.ReadMerges(model["merges"]));
  ATTNPRUNE_RETURN_IF_ERROR(parsed.ReadUnknown(model["unk_token"]));
  ATTNPRUNE_ASSIGN_OR_RETURN(parsed.ignore_merges_, model["ignore_merges"].BoolOr(false));
  ATTNPRUNE_ASSIGN_OR_RETURN(parsed.byte_fallback_, model["byte_fallback"].BoolOr(false));
  ATTNPRUNE_ASSIGN_OR_RETURN(parsed.fuse_unknown_, model["fuse_unk"].BoolOr(false));
  return parsed;
}

absl::Status BpeModel::ReadVocabulary(const JsonNode& vocabulary) {
  ATTNPRUNE_RETURN_IF_ERROR(vocabulary.CheckObject());
  const auto& tokens = vocabulary.value().get_ref<const json::object_t&>();
  vocabulary_.reserve(tokens.size());
  for (const auto& [token, id] : tokens) {
    if (!IsTokenId(id)) return vocabulary[token].TokenId().status();
    vocabulary_.emplace(token, id.get<int32_t>());
    largest_id_ = std::max(largest_id_, id.get<int32_t>());
  }
  return absl::OkStatus();
}

absl::Status BpeModel::ReadMerges(const JsonNode& merges) {
  if (!merges.value().is_array()) return merges.Must("be an array");
  const auto& list = merges.value().get_ref<const json::array_t&>();
  merges_.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const auto parts = PartsOf(list[i]);
    if (!parts.has_value()) return merges[i].Must("be \"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]");
    if (!AddMerge(parts->first, parts->second, static_cast<int32_t>(i))) {
      return merges[i].Must(
          absl::StrCat("be of two tokens of the vocabulary, which has their sum, ", "not ",
                       Quoted(parts->first), " and ", Quoted(parts->second)));
    }
  }
  return absl::OkStatus();
}

bool BpeModel::AddMerge(absl::string_view left, absl::string_view right, int32_t rank) {
  const auto left_id = Find(left);
  const auto right_id = Find(right);
  const auto merged = Find(absl::StrCat(left, right));
  if (!left_id.has_value() || !right_id.has_value() || !merged.has_value()) return false;
  if (left.empty() || right.empty()) return false;
  merges_[PairKey(*left_id, *right_id)] = {rank, *merged};
  joined_.insert(
      PairKey(FirstCharacter(left.substr(LastCharacterStart(left))), FirstCharacter(right)));
  return true;
}

absl::Status BpeModel::ReadUnknown(const JsonNode& token) {
  has_unknown_ = !token.IsNull();
  if (!has_unknown_) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string text, token.String());
  unknown_id_ = Find(text);
  unknown_name_ = absl::StrCat(token.name(), " ", Quoted(text));
  return absl::OkStatus();
}

absl::optional<int32_t> BpeModel::Find(absl::string_view token) const {
  const auto found = vocabulary_.find(token);
  if (found == vocabulary_.end()) return absl::nullopt;
  return found->second;
}

absl::optional<BpeMerge> BpeModel::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  if (found == merges_.end()) return absl::nullopt;
  return found->second;
}

bool BpeModel::MayJoin(int32_t left_character, int32_t right_character) const {
  return joined_.contains(PairKey(left_character, right_character));
}

absl::StatusOr<int32_t> BpeModel::UnknownId(absl::string_view character) const {
  if (unknown_id_.has_value()) return *unknown_id_;
  return Refuse(unknown_name_, " must be in model.vocab, for the text has ", Quoted(character),
                ", which is not");
}

}  // namespace attnprune
