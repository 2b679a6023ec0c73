// tokenizer.json's model: byte pair encoding, a vocabulary and the pairs that merge.
#ifndef ATTNPRUNE_CORE_TEXT_BPE_H_
#define ATTNPRUNE_CORE_TEXT_BPE_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "core/text/json_node.h"

namespace attnprune {

struct BpeMerge {
  int32_t rank;  // its place in `merges`; the lowest merges first
  int32_t id;    // of the two made one
};

// Immutable, so any number of threads may read it. BpeEncoder turns words into ids by it.
class BpeModel {
 public:
  // INVALID_ARGUMENT names the key at fault: another type than BPE, dropout, prefixes and suffixes
  // of subwords, a merge of what is not in the vocabulary.
  static absl::StatusOr<BpeModel> Parse(const JsonNode& model);

  absl::optional<int32_t> Find(absl::string_view token) const;
  absl::optional<BpeMerge> FindMerge(int32_t left, int32_t right) const;
  // Whether the characters may come to stand in one token, side by side. If not, what is left of
  // the place between them and what is right of it merge as if each were alone.
  bool MayJoin(int32_t left_character, int32_t right_character) const;

  int32_t largest_id() const { return largest_id_; }     // -1: the vocabulary is empty
  bool ignore_merges() const { return ignore_merges_; }  // a word of the vocabulary is its id
  bool byte_fallback() const { return byte_fallback_; }  // unknown characters become <0xHH>
  bool fuse_unknown() const { return fuse_unknown_; }    // a run of unknown characters is one id
  bool has_unknown() const { return has_unknown_; }      // else unknown characters are dropped
  // INVALID_ARGUMENT: the vocabulary has no unk_token; `character` needs it.
  absl::StatusOr<int32_t> UnknownId(absl::string_view character) const;

 private:
  absl::Status ReadVocabulary(const JsonNode& vocabulary);
  absl::Status ReadMerges(const JsonNode& merges);
  // Whether both parts and the two as one are in the vocabulary.
  bool AddMerge(absl::string_view left, absl::string_view right, int32_t rank);
  absl::Status ReadUnknown(const JsonNode& token);

  absl::flat_hash_map<std::string, int32_t> vocabulary_;
  absl::flat_hash_map<uint64_t, BpeMerge> merges_;  // by the two ids
  absl::flat_hash_set<uint64_t> joined_;            // pairs of characters; see MayJoin
  int32_t largest_id_ = -1;
  bool ignore_merges_ = false;
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
  bool has_unknown_ = false;
  absl::optional<int32_t> unknown_id_;
  std::string unknown_name_;  // the key, and unk_token: for messages
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_BPE_H_
