// Words to token ids by byte pair encoding: the adjacent pair of lowest rank merges, the leftmost
// of equals, until none is left.
#ifndef ATTNPRUNE_CORE_TEXT_BPE_ENCODER_H_
#define ATTNPRUNE_CORE_TEXT_BPE_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "core/text/bpe.h"

namespace attnprune {

// The work space of one text; it remembers up to 2^16 words. For one thread at a time; the model
// outlives it.
class BpeEncoder {
 public:
  explicit BpeEncoder(const BpeModel& model) : model_(model) {}

  // Appends the ids of one word: well-formed UTF-8 of at most 2^31 - 1 bytes. O(n log n) for n
  // bytes. INVALID_ARGUMENT: see BpeModel::UnknownId.
  absl::Status Append(absl::string_view word, std::vector<int32_t>* ids);

 private:
  struct Symbol {
    int32_t id;             // -1: merged into the one before it
    int32_t before, after;  // their places; -1: none
  };
  struct Candidate {  // a pair to merge, unless it is there no more
    int32_t rank, place;
    int32_t left, right, merged;  // ids
  };
  static bool IsLater(const Candidate& a, const Candidate& b);

  absl::Status AppendRemembered(absl::string_view word, std::vector<int32_t>* ids);
  absl::Status AppendMerged(absl::string_view word, std::vector<int32_t>* ids);
  void Remember(absl::string_view word, const std::vector<int32_t>& ids, size_t begin);
  // Where the part that can be encoded by itself ends that begins at the start of text.
  size_t IndependentPart(absl::string_view text) const;

  absl::Status MakeSymbols(absl::string_view word);
  absl::Status AddUnknown(absl::string_view character, bool after_unknown);
  bool AddFallback(absl::string_view character);
  void AddSymbol(int32_t id);
  void MergeAll();
  bool MakeCandidate(int32_t place, Candidate* candidate) const;
  void Offer(int32_t place);
  void Merge(const Candidate& candidate);

  const BpeModel& model_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
  absl::flat_hash_map<std::string, std::pair<size_t, size_t>> words_;  // begin, end in known_ids_
  std::vector<int32_t> known_ids_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_BPE_ENCODER_H_
