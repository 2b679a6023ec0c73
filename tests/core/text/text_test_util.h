// Small tokenisers to write down.
#ifndef ATTNPRUNE_TESTS_CORE_TEXT_TEXT_TEST_UTIL_H_
#define ATTNPRUNE_TESTS_CORE_TEXT_TEXT_TEST_UTIL_H_

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/text/tokenizer.h"
#include "tests/core/tensor/tensor_test_util.h"
#include "tests/support/value_or_die.h"

namespace attnprune {

inline constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

using Ids = std::vector<int32_t>;

// One id a printable ASCII character, its code; no merges, nothing before or after.
inline nlohmann::json AsciiTokenizer() {
  nlohmann::json vocabulary = nlohmann::json::object();
  for (char c = ' '; c <= '~'; ++c) vocabulary[std::string(1, c)] = static_cast<int>(c);
  return {
      {"version", "1.0"},
      {"model",
       {{"type", "BPE"}, {"vocab", std::move(vocabulary)}, {"merges", nlohmann::json::array()}}}};
}

inline absl::StatusOr<Tokenizer> ParseTokenizer(const nlohmann::json& json) {
  const std::string text = json.dump();
  return Tokenizer::Parse({"tokenizer.json", text});
}

inline Tokenizer TokenizerOf(const nlohmann::json& json) {
  return testing::ValueOrDie(ParseTokenizer(json));
}

inline Ids Encoded(const nlohmann::json& json, absl::string_view text) {
  return testing::ValueOrDie(TokenizerOf(json).Encode(text));
}

// Ids of AsciiTokenizer's characters.
inline Ids Codes(absl::string_view text) { return {text.begin(), text.end()}; }

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_CORE_TEXT_TEXT_TEST_UTIL_H_
